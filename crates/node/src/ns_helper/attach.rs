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

/// The task: attach one mount at one target.
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
    pub container: Option<Process>,
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
        let mountinfo = mountinfo_of(self.container)?;
        let target = MountNamespace::of(self.container)?;
        MountNamespace::of(Some(self.mounter))?.enter()?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, &self.point, flags).map_err(std::io::Error::from)?;
        target.enter()?;
        let (directory, created) = directories::create(&self.path, &fds, self.root, self.owner)?;
        let attached = self.attach(&tree, directory, &fds, &mountinfo);
        if attached.is_err() {
            directories::remove_empty(&created);
        }
        attached.map(|()| created)
    }

    /// Attaches the clone `tree`, unless a living mount of this ID is there already.
    fn attach(
        &self,
        tree: &OwnedFd,
        directory: OwnedFd,
        fds: &ProcFds,
        mountinfo: &File,
    ) -> Result<(), Error> {
        let path = fds.path(&directory)?;
        let mounts = directories::read_mounts(mountinfo)?;
        let top = mountinfo::top(&mounts, &path);
        match top.filter(|top| top.source == self.label) {
            Some(top) if top.device == self.device => Ok(()),
            Some(_) => self.replace(tree, directory, &path, mountinfo),
            None => {
                self.check_free(&directory, top)?;
                move_to(tree, &directory, MoveMountFlags::empty())
            }
        }
    }

    /// Checks that nothing else occupies the directory. `top` is the mount there.
    fn check_free(&self, directory: &OwnedFd, top: Option<&MountEntry>) -> Result<(), Error> {
        let occupied = |by: &str| Err(Error::PathTaken(format!("{} {by}", self.path.display())));
        if directories::is_dead(directory) {
            occupied("has a mount that is dead")
        } else if top.is_some_and(|top| top.kind.starts_with("fuse")) {
            occupied("has another bucket")
        } else if !directories::is_empty(directory, self.root)? {
            occupied("is not empty")
        } else {
            Ok(())
        }
    }

    /// Replaces dead mounts of this ID at the path.
    fn replace(
        &self,
        tree: &OwnedFd,
        directory: OwnedFd,
        path: &Path,
        mountinfo: &File,
    ) -> Result<(), Error> {
        let beneath = move_to(tree, &directory, MoveMountFlags::MOVE_MOUNT_BENEATH).is_ok();
        drop(directory);
        let (parent, name) = directories::open_parent(path)?;
        fchdir(&parent).map_err(std::io::Error::from)?;
        loop {
            let mounts = directories::read_mounts(mountinfo)?;
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
        move_to(tree, &directory, MoveMountFlags::empty())
    }
}

fn move_to(tree: &OwnedFd, directory: &OwnedFd, mode: MoveMountFlags) -> Result<(), Error> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", directory, "", empty | mode).map_err(std::io::Error::from)?)
}

/// Opens the list of the container's mounts. For the host it is the list of PID 1, or of this
/// process if PID 1 may not be inspected.
pub(super) fn mountinfo_of(container: Option<Process>) -> Result<File, Error> {
    let own = || File::open("/proc/self/mountinfo").map_err(Error::from);
    match container {
        None => File::open("/proc/1/mountinfo").or_else(|_| own()),
        Some(process) => {
            let file = File::open(format!("/proc/{}/mountinfo", process.pid));
            file.map_err(|_| Error::Gone)
        }
    }
}
