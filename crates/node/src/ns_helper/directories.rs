//! Directories in a container's file system, held by descriptors. So a path component that
//! is renamed or replaced meanwhile cannot lead out of the container. Paths are resolved
//! within the root of the namespace that was entered.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, chownat, fstatfs, mkdirat, open, openat,
    openat2, readlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use crate::{Error, Owner};

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Resolves this process's descriptors to paths. It holds `/proc/self/fd`, opened before
/// the process enters another mount namespace.
pub struct ProcFds {
    descriptors: OwnedFd,
}

impl ProcFds {
    /// Must be called before a namespace change: later, `/proc` is another one.
    pub fn open() -> Result<Self, Error> {
        let descriptors = open("/proc/self/fd", HANDLE, Mode::empty()).map_err(IoError::from)?;
        Ok(Self { descriptors })
    }

    /// The descriptor's path, seen from the root of the current namespace.
    pub fn path(&self, handle: &OwnedFd) -> Result<PathBuf, Error> {
        use std::os::fd::AsRawFd;
        let name = handle.as_fd().as_raw_fd().to_string();
        let path = readlinkat(&self.descriptors, name, Vec::new()).map_err(IoError::from)?;
        Ok(PathBuf::from(
            String::from_utf8_lossy(path.as_bytes()).into_owned(),
        ))
    }
}

/// Opens the directory at `path` within the current namespace's root. It follows symbolic
/// links. `None` means that nothing exists there.
pub fn lookup(path: &Path) -> Result<Option<OwnedFd>, Error> {
    let links = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = root()?;
    match openat2(
        &root,
        relative(path),
        HANDLE | OFlags::DIRECTORY,
        Mode::empty(),
        links,
    ) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(taken(path, "leads through a loop of symbolic links")),
        Err(Errno::NOTDIR) => Err(taken(
            path,
            "is not a directory, or is below something that is not",
        )),
        Err(error) => Err(IoError::from(error).into()),
    }
}

/// Opens the parent directory of `path` and returns it with the last component's name. A
/// symbolic link in the path is an error.
pub fn open_parent(path: &Path) -> Result<(OwnedFd, PathBuf), Error> {
    let links = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let name = path.file_name().ok_or(Error::Gone)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = HANDLE | OFlags::DIRECTORY;
    let handle = openat2(&root()?, relative(parent), flags, Mode::empty(), links);
    Ok((handle.map_err(IoError::from)?, PathBuf::from(name)))
}

/// A directory, and the paths of the directories that were created for it.
pub type Created = (OwnedFd, Vec<PathBuf>);

/// Opens the directory at `path`. Creates it and its parents if they are missing, and returns
/// the created paths, the outermost first. New directories are created as `root` and
/// belong to `owner`.
pub fn create(path: &Path, fds: &ProcFds, root: Owner, owner: Owner) -> Result<Created, Error> {
    if let Some(handle) = lookup(path)? {
        return Ok((handle, Vec::new()));
    }
    let mut missing = Vec::new();
    let mut around = path;
    let mut directory = loop {
        let name = around.file_name().ok_or(Error::Gone)?;
        missing.push(name.to_owned());
        around = around.parent().ok_or(Error::Gone)?;
        if let Some(handle) = lookup(around)? {
            break handle;
        }
    };
    let mut created = Vec::new();
    for name in missing.into_iter().rev() {
        let mode = Mode::from_raw_mode(0o755);
        let result = as_user(root, || mkdirat(&directory, &*name, mode))?;
        match result {
            Ok(()) => {}
            // `lookup` found nothing here, so it is a dangling symbolic link.
            Err(Errno::EXIST) => {
                return Err(taken(path, "leads through a symbolic link to nothing"));
            }
            Err(Errno::ROFS) => {
                return Err(taken(
                    path,
                    "does not exist, and the directory above it is read-only",
                ));
            }
            Err(error) => return Err(IoError::from(error).into()),
        }
        let flags = HANDLE | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let inner = openat(&directory, &*name, flags, Mode::empty()).map_err(IoError::from)?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        // An error is ignored (the ID may be unmapped): the mount works without it.
        let _ = chownat(&inner, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        created.push(fds.path(&inner)?);
        directory = inner;
    }
    Ok((directory, created))
}

/// Removes directories that were created for a mount, the innermost first. A directory
/// that is not empty stays.
pub fn remove_empty(created: &[PathBuf]) {
    for path in created.iter().rev() {
        if let Ok((parent, name)) = open_parent(path) {
            // It fails if the directory is in use.
            let _ = unlinkat(&parent, &*name, AtFlags::REMOVEDIR);
        }
    }
}

/// True if the directory has no entries.
pub fn is_empty(directory: &OwnedFd, root: Owner) -> Result<bool, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = as_user(root, || openat(directory, ".", flags, Mode::empty()))?;
    let mut entries = Dir::new(opened.map_err(IoError::from)?).map_err(IoError::from)?;
    Ok(entries
        .all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))))
}

/// Runs one step as a user of the container. On an idmapped mount the host's root maps to
/// no user and may create nothing.
fn as_user<T>(user: Owner, step: impl FnOnce() -> T) -> Result<T, Error> {
    let set = |owner: Owner| -> rustix::io::Result<()> {
        // Only root may change the group. So the user changes last on the way to another
        // user, and first on the way back to root.
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        if owner.uid == 0 {
            set_thread_res_uid(None, uid, None)?;
        }
        set_thread_res_gid(None, gid, None)?;
        set_thread_res_uid(None, uid, None)
    };
    set(user).map_err(IoError::from)?;
    let result = step();
    set(Owner { uid: 0, gid: 0 }).map_err(IoError::from)?;
    Ok(result)
}

/// True if the FUSE file system is still mounted but its server has ended.
pub fn is_dead(handle: &OwnedFd) -> bool {
    matches!(fstatfs(handle), Err(Errno::NOTCONN | Errno::CONNABORTED))
}

fn root() -> Result<OwnedFd, Error> {
    let flags = HANDLE | OFlags::DIRECTORY;
    Ok(openat(CWD, "/", flags, Mode::empty()).map_err(IoError::from)?)
}

/// `path` without its leading slash; `.` for the root itself.
fn relative(path: &Path) -> PathBuf {
    let parts = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    let relative: PathBuf = parts.collect();
    if relative.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        relative
    }
}

fn taken(path: &Path, why: &str) -> Error {
    Error::PathTaken(format!("{} {why}", path.display()))
}

/// Reads a `mountinfo` file that was opened before the namespace change. Each call reads it
/// again from the start.
pub fn read_mounts(file: &File) -> Result<Vec<crate::mountinfo::MountEntry>, Error> {
    use std::os::unix::fs::FileExt;
    let (mut text, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match file.read_at(&mut chunk, text.len() as u64) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(crate::mountinfo::parse(&String::from_utf8_lossy(&text)))
}
