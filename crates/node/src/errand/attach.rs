//! Puts a clone of a mounter's mount into another mount namespace. Once it is
//! there, doing it again changes nothing; a mount of ours whose mounter has died
//! is replaced, from beneath where the kernel can, so that nobody sees the folder
//! without a mount.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::process::fchdir;
use serde::{Deserialize, Serialize};

use super::spot::{self, Eyes};
use super::{Answer, Space};
use crate::mountinfo::{self, Entry};
use crate::{Error, Owner, Process};

/// A mount to put into a place.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attach {
    /// Whose mount it is.
    pub mounter: Process,
    /// Where it is in the mounter's namespace.
    pub point: PathBuf,
    /// What it is called as a mount's source.
    pub label: String,
    /// Device number of its file system.
    pub device: String,
    /// A process of the container; none: the host.
    pub target: Option<Process>,
    /// Where it is to be.
    pub path: PathBuf,
    /// Root in the target, as the host counts.
    pub root: Owner,
    /// Whom new folders belong to.
    pub owner: Owner,
}

impl Attach {
    /// Folders that had to be made.
    pub fn run(self) -> Answer {
        let eyes = Eyes::open()?;
        let seen = mountinfo_of(self.target)?;
        let target = Space::of(self.target)?;
        Space::of(Some(self.mounter))?.enter()?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, &self.point, flags).map_err(std::io::Error::from)?;
        target.enter()?;
        let (folder, made) = spot::make(&self.path, &eyes, self.root, self.owner)?;
        let placed = self.place(&tree, folder, &eyes, &seen);
        if placed.is_err() {
            spot::remove(&made);
        }
        placed.map(|()| made)
    }

    fn place(
        &self,
        tree: &OwnedFd,
        folder: OwnedFd,
        eyes: &Eyes,
        seen: &File,
    ) -> Result<(), Error> {
        let path = eyes.path(&folder)?;
        let mounts = spot::mounts(seen)?;
        let ours = |top: &&Entry| top.source == self.label;
        let top = mountinfo::top(&mounts, &path);
        match top.filter(ours) {
            Some(top) if top.device == self.device => Ok(()),
            Some(_) => self.replace(tree, folder, &path, seen),
            None if spot::is_dead(&folder) => Err(taken(&self.path, "has a mount that is dead")),
            None if top.is_some_and(|top| top.kind.starts_with("fuse")) => {
                Err(taken(&self.path, "has another bucket"))
            }
            None if !spot::is_empty(&folder, self.root)? => Err(taken(&self.path, "is not empty")),
            None => put(tree, &folder, MoveMountFlags::empty()),
        }
    }

    /// Puts the mount in the place of dead ones of ours.
    fn replace(
        &self,
        tree: &OwnedFd,
        folder: OwnedFd,
        path: &Path,
        seen: &File,
    ) -> Result<(), Error> {
        let beneath = put(tree, &folder, MoveMountFlags::MOVE_MOUNT_BENEATH).is_ok();
        drop(folder);
        let (parent, name) = spot::parent(path)?;
        fchdir(&parent).map_err(std::io::Error::from)?;
        loop {
            let mounts = spot::mounts(seen)?;
            let top = mountinfo::top(&mounts, path).filter(|top| top.source == self.label);
            if top.is_none_or(|top| top.device == self.device) {
                break;
            }
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(&*name, flags).map_err(std::io::Error::from)?;
        }
        if beneath {
            return Ok(());
        }
        let folder = spot::look(path)?.ok_or(Error::Gone)?;
        put(tree, &folder, MoveMountFlags::empty())
    }
}

fn put(tree: &OwnedFd, folder: &OwnedFd, how: MoveMountFlags) -> Result<(), Error> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", folder, "", empty | how).map_err(std::io::Error::from)?)
}

/// Mounts of the target as it sees them; of this process where it is the host.
pub(super) fn mountinfo_of(target: Option<Process>) -> Result<File, Error> {
    let own = || File::open("/proc/self/mountinfo").map_err(Error::from);
    match target {
        None => File::open("/proc/1/mountinfo").or_else(|_| own()),
        Some(process) => {
            let file = File::open(format!("/proc/{}/mountinfo", process.pid));
            file.map_err(|_| Error::Gone)
        }
    }
}

fn taken(path: &Path, why: &str) -> Error {
    Error::PathTaken(format!("{} {why}", path.display()))
}
