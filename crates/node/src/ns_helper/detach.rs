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

/// The task: detach one mount from one place.
#[derive(Debug, Serialize, Deserialize)]
pub struct Detach {
    /// The mount's source in `mountinfo`.
    pub label: String,
    /// A process of the container. `None` is the host.
    pub target: Option<Process>,
    /// Only the mount at this path. `None` means every mount of the label in the target.
    pub path: Option<PathBuf>,
    /// Directories that were created for it, the outermost first.
    pub made: Vec<PathBuf>,
    /// True if its mounter has ended. Then a lazy unmount loses no data.
    pub dead: bool,
}

impl Detach {
    /// Returns no directories.
    pub fn run(self) -> Answer {
        let fds = ProcFds::open()?;
        let seen = mountinfo_of(self.target)?;
        MountNamespace::of(self.target)?.enter()?;
        let only = match &self.path {
            None => None,
            Some(path) => match directories::lookup(path)? {
                Some(directory) => Some(fds.path(&directory)?),
                None => return Ok(Vec::new()),
            },
        };
        let ours = |entry: &MountEntry| {
            let there = only
                .as_ref()
                .is_none_or(|only| only == Path::new(&entry.point));
            entry.source == self.label && there
        };
        loop {
            let mounts = directories::read_mounts(&seen)?;
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
        directories::remove_empty(&self.made);
        Ok(Vec::new())
    }

    /// Unmounts by name from the parent directory, which is opened without symbolic links.
    /// So the name cannot lead to another mount.
    fn unmount(&self, path: &Path) -> Result<(), Error> {
        let (parent, name) = directories::open_parent(path)?;
        fchdir(&parent).map_err(std::io::Error::from)?;
        let how = if self.dead {
            UnmountFlags::DETACH | UnmountFlags::NOFOLLOW
        } else {
            UnmountFlags::NOFOLLOW
        };
        match unmount(&*name, how) {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => Err(Error::Busy(path.display().to_string())),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }
}
