//! Takes away what is mounted at a path of the host and nobody has a record of, and
//! the folder. In the host's mount namespace: that of a pod may have no copy of a
//! mount, or one more.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use super::attach::mountinfo_of;
use super::{Answer, Space, spot};
use crate::mountinfo::Entry;

/// A path to be cleared.
#[derive(Debug, Serialize, Deserialize)]
pub struct Clear {
    /// Where on the host it is.
    pub path: PathBuf,
    /// Whether a folder that cannot be removed is an error.
    pub folder: bool,
}

impl Clear {
    /// Makes nothing.
    pub fn run(self) -> Answer {
        let seen = mountinfo_of(None)?;
        Space::of(None)?.enter()?;
        let at = |entry: &Entry| Path::new(&entry.point) == self.path;
        while spot::mounts(&seen)?.iter().any(at) {
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(&*self.path, flags).map_err(std::io::Error::from)?;
        }
        match std::fs::remove_dir(&self.path) {
            Err(error) if self.folder && error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(Vec::new()),
        }
    }
}
