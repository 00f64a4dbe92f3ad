//! Takes a mount of ours out of another mount namespace, and with it the folders
//! that were made for it. Where it is is asked of the kernel, not remembered:
//! somebody may have renamed a folder above it.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::fchdir;
use serde::{Deserialize, Serialize};

use super::attach::mountinfo_of;
use super::spot::{self, Eyes};
use super::{Answer, Space};
use crate::mountinfo::{self, Entry};
use crate::{Error, Process};

/// A mount to take out of a place.
#[derive(Debug, Serialize, Deserialize)]
pub struct Detach {
    /// What it is called as a mount's source.
    pub label: String,
    /// A process of the container; none: the host.
    pub target: Option<Process>,
    /// Where on the host it is; in a container, wherever it is.
    pub path: Option<PathBuf>,
    /// Folders that were made for it, the outermost first.
    pub made: Vec<PathBuf>,
    /// Whether its mounter has ended: then nothing can be lost.
    pub dead: bool,
}

impl Detach {
    /// Makes nothing.
    pub fn run(self) -> Answer {
        let eyes = Eyes::open()?;
        let seen = mountinfo_of(self.target)?;
        Space::of(self.target)?.enter()?;
        let only = match &self.path {
            None => None,
            Some(path) => match spot::look(path)? {
                Some(folder) => Some(eyes.path(&folder)?),
                None => return Ok(Vec::new()),
            },
        };
        let ours = |entry: &Entry| {
            let there = only
                .as_ref()
                .is_none_or(|only| only == Path::new(&entry.point));
            entry.source == self.label && there
        };
        loop {
            let mounts = spot::mounts(&seen)?;
            let Some(entry) = mounts.iter().rfind(|entry| ours(entry)) else {
                break;
            };
            let point = Path::new(&entry.point);
            if mountinfo::top(&mounts, point).is_none_or(|top| !ours(top)) {
                // Somebody has mounted something else on it.
                return Err(Error::Busy(entry.point.clone()));
            }
            self.unmount(point)?;
        }
        spot::remove(&self.made);
        Ok(Vec::new())
    }

    /// From the folder that holds it, which no symbolic link leads to, so that
    /// nothing but the mount itself can be meant.
    fn unmount(&self, path: &Path) -> Result<(), Error> {
        let (parent, name) = spot::parent(path)?;
        fchdir(&parent).map_err(std::io::Error::from)?;
        let how = match self.dead {
            true => UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
            false => UnmountFlags::NOFOLLOW,
        };
        match unmount(&*name, how) {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => Err(Error::Busy(path.display().to_string())),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }
}
