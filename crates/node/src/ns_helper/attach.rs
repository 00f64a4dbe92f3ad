//! Attaches a clone of a mounter's mount in another mount namespace. Repeating it changes
//! nothing. A mount of this ID whose mounter has died is replaced. If the kernel supports it,
//! the new mount is put beneath the old one first, so that no process sees the directory
//! without a mount.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::process::fchdir;
use serde::{Deserialize, Serialize};

use super::directories::{self, ProcFds};
use super::{Answer, MountNamespace};
use crate::mountinfo::{self, MountEntry};
use crate::{Error, Owner, Process};

/// The task: attach one mount at one place.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attach {
    /// The process that serves the mount.
    pub mounter: Process,
    /// The mount point in the mounter's namespace.
    pub point: PathBuf,
    /// The mount's source in `mountinfo`.
    pub label: String,
    /// Device number of its file system.
    pub device: String,
    /// A process of the container. `None` is the host.
    pub target: Option<Process>,
    /// The mount point in the target.
    pub path: PathBuf,
    /// The host's IDs of the target's root user.
    pub root: Owner,
    /// The owner of directories that are created.
    pub owner: Owner,
}

impl Attach {
    /// Returns the directories that it created.
    pub fn run(self) -> Answer {
        let fds = ProcFds::open()?;
        let seen = mountinfo_of(self.target)?;
        let target = MountNamespace::of(self.target)?;
        MountNamespace::of(Some(self.mounter))?.enter()?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, &self.point, flags).map_err(std::io::Error::from)?;
        target.enter()?;
        let (directory, made) = directories::create(&self.path, &fds, self.root, self.owner)?;
        let placed = self.place(&tree, directory, &fds, &seen);
        if placed.is_err() {
            directories::remove_empty(&made);
        }
        placed.map(|()| made)
    }

    fn place(
        &self,
        tree: &OwnedFd,
        directory: OwnedFd,
        fds: &ProcFds,
        seen: &File,
    ) -> Result<(), Error> {
        let path = fds.path(&directory)?;
        let mounts = directories::read_mounts(seen)?;
        let ours = |top: &&MountEntry| top.source == self.label;
        let top = mountinfo::top(&mounts, &path);
        match top.filter(ours) {
            Some(top) if top.device == self.device => Ok(()),
            Some(_) => self.replace(tree, directory, &path, seen),
            None if directories::is_dead(&directory) => {
                Err(taken(&self.path, "has a mount that is dead"))
            }
            None if top.is_some_and(|top| top.kind.starts_with("fuse")) => {
                Err(taken(&self.path, "has another bucket"))
            }
            None if !directories::is_empty(&directory, self.root)? => {
                Err(taken(&self.path, "is not empty"))
            }
            None => put(tree, &directory, MoveMountFlags::empty()),
        }
    }

    /// Replaces dead mounts of this ID at the path.
    fn replace(
        &self,
        tree: &OwnedFd,
        directory: OwnedFd,
        path: &Path,
        seen: &File,
    ) -> Result<(), Error> {
        let beneath = put(tree, &directory, MoveMountFlags::MOVE_MOUNT_BENEATH).is_ok();
        drop(directory);
        let (parent, name) = directories::open_parent(path)?;
        fchdir(&parent).map_err(std::io::Error::from)?;
        loop {
            let mounts = directories::read_mounts(seen)?;
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
        let directory = directories::lookup(path)?.ok_or(Error::Gone)?;
        put(tree, &directory, MoveMountFlags::empty())
    }
}

fn put(tree: &OwnedFd, directory: &OwnedFd, how: MoveMountFlags) -> Result<(), Error> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", directory, "", empty | how).map_err(std::io::Error::from)?)
}

/// Opens the list of the target's mounts. For the host it is the list of PID 1, or of this
/// process if PID 1 may not be inspected.
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
