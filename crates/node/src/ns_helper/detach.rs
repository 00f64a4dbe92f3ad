//! Detaches a mount of this ID in another mount namespace and removes the directories that
//! were created for it. The kernel's list gives the mount point, not the record, because a
//! directory above it may have been renamed.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::fchdir;
use serde::{Deserialize, Serialize};

use super::attach::mountinfo_of;
use super::directories::{self, ProcFds};
use super::{Answer, MountNamespace};
use crate::mountinfo::{self, MountEntry};
use crate::{Error, Process};

/// The task: detach one mount from one target.
#[derive(Debug, Serialize, Deserialize)]
pub struct Detach {
    /// The mount's source in `mountinfo`.
    pub label: String,
    /// A process of the container. `None` is the host.
    pub container: Option<Process>,
    /// Only the mount at this path. `None` means every mount of the label in the container.
    pub path: Option<PathBuf>,
    /// Directories that were created for it, the outermost first.
    pub created: Vec<PathBuf>,
    /// The state of its mounter. If it has ended, a lazy unmount loses no data.
    pub mounter: MounterState,
}

/// The state of a mounter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MounterState {
    /// It runs and may still have data to send.
    Running,
    /// It has ended.
    Ended,
}

impl Detach {
    /// Returns no directories.
    pub fn run(self) -> Answer {
        let fds = ProcFds::open()?;
        let mountinfo = mountinfo_of(self.container)?;
        MountNamespace::of(self.container)?.enter()?;
        let only = match &self.path {
            None => None,
            Some(path) => match directories::lookup(path)? {
                Some(directory) => Some(fds.path(&directory)?),
                None => return Ok(Vec::new()),
            },
        };
        let ours = |entry: &MountEntry| {
            let only = only.as_ref();
            let at_path = only.is_none_or(|only| only == Path::new(&entry.point));
            entry.source == self.label && at_path
        };
        loop {
            let mounts = directories::read_mounts(&mountinfo)?;
            let Some(entry) = mounts.iter().rfind(|entry| ours(entry)) else {
                break;
            };
            let point = Path::new(&entry.point);
            if mountinfo::top(&mounts, point).is_none_or(|top| !ours(top)) {
                // Another mount covers it.
                return Err(Error::Busy(entry.point.clone()));
            }
            self.unmount(point)?;
        }
        directories::remove_empty(&self.created);
        Ok(Vec::new())
    }

    /// Unmounts by name from the parent directory, which is opened without symbolic links.
    /// So the name cannot lead to another mount.
    fn unmount(&self, path: &Path) -> Result<(), Error> {
        let (parent, name) = directories::open_parent(path)?;
        fchdir(&parent).map_err(std::io::Error::from)?;
        let flags = if self.mounter == MounterState::Ended {
            UnmountFlags::DETACH | UnmountFlags::NOFOLLOW
        } else {
            UnmountFlags::NOFOLLOW
        };
        match unmount(&*name, flags) {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => Err(Error::Busy(path.display().to_string())),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }
}
