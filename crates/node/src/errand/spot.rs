//! A place in somebody else's file system, held by descriptors: nothing that is
//! renamed or replaced meanwhile leads out of it. Paths are resolved within the
//! root of the namespace that was entered.

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

/// What is needed of the host to look at places, opened before it is left.
pub struct Eyes {
    descriptors: OwnedFd,
}

impl Eyes {
    /// Of this process, whose `/proc` is another's after it has changed namespaces.
    pub fn open() -> Result<Self, Error> {
        let descriptors = open("/proc/self/fd", HANDLE, Mode::empty()).map_err(IoError::from)?;
        Ok(Self { descriptors })
    }

    /// Where the descriptor is, as the root of the present namespace sees it.
    pub fn path(&self, handle: &OwnedFd) -> Result<PathBuf, Error> {
        use std::os::fd::AsRawFd;
        let name = handle.as_fd().as_raw_fd().to_string();
        let path = readlinkat(&self.descriptors, name, Vec::new()).map_err(IoError::from)?;
        Ok(PathBuf::from(
            String::from_utf8_lossy(path.as_bytes()).into_owned(),
        ))
    }
}

/// Opens `path` in the present namespace's root, symbolic links included. `None`
/// where there is nothing.
pub fn look(path: &Path) -> Result<Option<OwnedFd>, Error> {
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
        Err(Errno::LOOP) => Err(taken(path, "leads in a circle of symbolic links")),
        Err(Errno::NOTDIR) => Err(taken(
            path,
            "is, or lies below, something that is no folder",
        )),
        Err(error) => Err(IoError::from(error).into()),
    }
}

/// Opens the folder that holds the last component of a path without any symbolic
/// link in it, with that component's name.
pub fn parent(path: &Path) -> Result<(OwnedFd, PathBuf), Error> {
    let links = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let name = path.file_name().ok_or(Error::Gone)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let flags = HANDLE | OFlags::DIRECTORY;
    let handle = openat2(&root()?, relative(folder), flags, Mode::empty(), links);
    Ok((handle.map_err(IoError::from)?, PathBuf::from(name)))
}

/// The folder at `path`, made where it is missing, and the paths of what was made,
/// the outermost first. What is made belongs to `owner`, as does its emptiness.
pub fn make(path: &Path, eyes: &Eyes, root: Owner, owner: Owner) -> Result<Made, Error> {
    if let Some(handle) = look(path)? {
        return Ok((handle, Vec::new()));
    }
    let mut missing = Vec::new();
    let mut around = path;
    let mut folder = loop {
        let name = around.file_name().ok_or(Error::Gone)?;
        missing.push(name.to_owned());
        around = around.parent().ok_or(Error::Gone)?;
        if let Some(handle) = look(around)? {
            break handle;
        }
    };
    let mut made = Vec::new();
    for name in missing.into_iter().rev() {
        let mode = Mode::from_raw_mode(0o755);
        let result = as_user(root, || mkdirat(&folder, &*name, mode))?;
        match result {
            Ok(()) => {}
            // There was nothing: a symbolic link that leads nowhere.
            Err(Errno::EXIST) => {
                return Err(taken(path, "leads through something that is no folder"));
            }
            Err(Errno::ROFS) => {
                return Err(taken(path, "would have to be made in a read-only folder"));
            }
            Err(error) => return Err(IoError::from(error).into()),
        }
        let flags = HANDLE | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let inner = openat(&folder, &*name, flags, Mode::empty()).map_err(IoError::from)?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        // Whoever cannot have it can still use what is mounted on it.
        let _ = chownat(&inner, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        made.push(eyes.path(&inner)?);
        folder = inner;
    }
    Ok((folder, made))
}

/// A folder, and what was made for it.
pub type Made = (OwnedFd, Vec<PathBuf>);

/// Removes folders that were made for a mount, the innermost first, as far as
/// they are empty.
pub fn remove(made: &[PathBuf]) {
    for path in made.iter().rev() {
        if let Ok((folder, name)) = parent(path) {
            // Somebody uses it: it stays.
            let _ = unlinkat(&folder, &*name, AtFlags::REMOVEDIR);
        }
    }
}

/// Whether there is nothing in a folder.
pub fn is_empty(folder: &OwnedFd, root: Owner) -> Result<bool, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = as_user(root, || openat(folder, ".", flags, Mode::empty()))?;
    let mut entries = Dir::new(opened.map_err(IoError::from)?).map_err(IoError::from)?;
    Ok(entries
        .all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))))
}

/// Does one step as a user of the container: on an idmapped mount the host's root
/// is nobody, and may make nothing there.
fn as_user<T>(user: Owner, step: impl FnOnce() -> T) -> Result<T, Error> {
    let set = |owner: Owner| -> rustix::io::Result<()> {
        // The group first, as only root may change it, and last on the way back.
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        if owner.uid == 0 {
            set_thread_res_uid(None, uid, None)?;
        }
        set_thread_res_gid(None, gid, None)?;
        set_thread_res_uid(None, uid, None)
    };
    set(user).map_err(IoError::from)?;
    let done = step();
    set(Owner { uid: 0, gid: 0 }).map_err(IoError::from)?;
    Ok(done)
}

/// Whether the file system behind it is there but its server is not.
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
    match relative.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => relative,
    }
}

fn taken(path: &Path, why: &str) -> Error {
    Error::PathTaken(format!("{} {why}", path.display()))
}

/// The process's `mountinfo`, opened before its namespace is entered.
pub fn mounts(file: &File) -> Result<Vec<crate::mountinfo::Entry>, Error> {
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
