//! Unmounts everything at a path of the host and removes the directory. It serves mounts
//! without a record. It works in the host's mount namespace, because a pod's namespace may
//! lack a copy of a mount or have an additional one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use super::attach::mountinfo_of;
use super::{Answer, MountNamespace, directories};
use crate::mountinfo::MountEntry;

/// The task: unmount everything at one path of the host.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnmountPath {
    /// The path on the host.
    pub path: PathBuf,
    /// The handling of a directory that cannot be removed.
    pub directory: Removal,
}

/// The handling of a directory that cannot be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// The directory may stay.
    BestEffort,
    /// It is an error. A directory that does not exist is none.
    Required,
}

impl UnmountPath {
    /// Returns no directories.
    pub fn run(self) -> Answer {
        let mountinfo = mountinfo_of(None)?;
        MountNamespace::of(None)?.enter()?;
        let at = |entry: &MountEntry| Path::new(&entry.point) == self.path;
        while directories::read_mounts(&mountinfo)?.iter().any(at) {
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(&*self.path, flags).map_err(std::io::Error::from)?;
        }
        match std::fs::remove_dir(&self.path) {
            Err(error)
                if self.directory == Removal::Required && error.kind() != ErrorKind::NotFound =>
            {
                Err(error.into())
            }
            _ => Ok(Vec::new()),
        }
    }
}
