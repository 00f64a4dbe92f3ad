//! Resolves paths with the kernel (`openat2`), in the sandbox's root.
//!
//! A place is an open directory and a name in it, so a check and the later use see the
//! same directory even if something is renamed in between. Magic links of `/proc`
//! (links to files without a path) are never followed: they would lead into the agent's
//! own descriptors. Only [`Place::make_directories`] changes anything.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat, fstat, fstatfs,
    mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::error::FileError;
use super::request::Wanted;

/// Most symbolic links followed; the kernel's own limit.
const MAX_LINKS: usize = 40;
/// A path cannot have more levels than bytes.
const MAX_DEPTH: usize = hutch_wire::limits::MAX_PATH;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
/// Flags to open a directory in order to read or flush its entries.
pub const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
/// The agent's directory in the root.
const OWN: &CStr = c".hutch";

/// The directory where relative paths start.
#[derive(Debug)]
pub struct Home(OwnedFd);

/// A name in a directory. The name may or may not exist.
#[derive(Debug)]
pub struct Place {
    /// The directory, or the deepest existing one on the path to it.
    pub directory: OwnedFd,
    /// The missing directories below it.
    pub missing: Vec<CString>,
    /// The name; `.` if the path names the directory itself.
    pub name: CString,
    /// True if the path ends in a slash, so it can only mean a directory.
    slash: bool,
}

/// Opens a path as any program of the sandbox would, but without the magic links of
/// `/proc`.
///
/// # Errors
/// The kernel's error.
pub fn open(directory: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    loop {
        let resolve = ResolveFlags::NO_MAGICLINKS;
        match openat2(directory.as_fd(), path, flags, Mode::empty(), resolve) {
            // Calls on a mounted bucket may be interrupted.
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The file type.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// True if both are the same file.
pub fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Refuses files of `/proc`: `/proc/self` would be the agent.
///
/// # Errors
/// [`FileError::OfTheKernel`].
pub fn refuse_proc(file: impl AsFd) -> Result<(), FileError> {
    if fstatfs(file)?.f_type == PROC_SUPER_MAGIC {
        return Err(FileError::OfTheKernel);
    }
    Ok(())
}

impl Home {
    /// The directory in which the agent was started.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn current() -> Result<Self, Errno> {
        openat(CWD, c".", DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }

    /// Opens the directory where the path starts.
    ///
    /// # Errors
    /// If the request's base directory cannot be entered.
    pub fn start(&self, wanted: &Wanted) -> Result<OwnedFd, Errno> {
        match &wanted.base {
            Some(base) if !wanted.path.as_bytes().starts_with(b"/") => {
                open(&self.0, base, DIRECTORY)
            }
            _ => open(&self.0, c".", DIRECTORY),
        }
    }

    /// Resolves the path without following a symbolic link at its end.
    ///
    /// # Errors
    /// If a directory on the path does not exist, or the place is refused.
    pub fn locate(&self, wanted: &Wanted) -> Result<Place, FileError> {
        let place = Place::below(self.start(wanted)?, wanted.path.as_bytes())?;
        place.guard()?;
        Ok(place)
    }

    /// Resolves the path and follows all symbolic links.
    ///
    /// # Errors
    /// As for [`Home::locate`].
    pub fn follow(&self, wanted: &Wanted) -> Result<Place, FileError> {
        let mut place = self.locate(wanted)?;
        for _ in 0..MAX_LINKS {
            if !place.missing.is_empty() {
                return Ok(place);
            }
            let link = match readlinkat(&place.directory, &place.name, Vec::new()) {
                Ok(link) => link,
                Err(Errno::INVAL | Errno::NOENT) => return Ok(place),
                Err(other) => return Err(other.into()),
            };
            // Let the kernel decide if this link may be followed.
            match open(&place.directory, &place.name, OFlags::PATH) {
                Ok(_) | Err(Errno::NOENT) => {}
                Err(other) => return Err(other.into()),
            }
            let slash = place.slash;
            place = Place::below(place.directory, link.as_bytes())?;
            place.slash |= slash;
            place.guard()?;
        }
        Err(Errno::LOOP.into())
    }
}

impl Place {
    /// Splits a path into directory and name.
    fn below(start: OwnedFd, path: &[u8]) -> Result<Self, Errno> {
        let start = match path.first() {
            Some(b'/') => open(&start, c"/", DIRECTORY)?,
            _ => start,
        };
        let slash = path.ends_with(b"/");
        let mut names: Vec<CString> = path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| Errno::INVAL)?;
        let name = match names.pop() {
            Some(name) if name.as_bytes() != b"." && name.as_bytes() != b".." => name,
            other => {
                names.extend(other);
                c".".to_owned()
            }
        };
        let (directory, missing) = descend(start, names)?;
        Ok(Self {
            directory,
            missing,
            name,
            slash,
        })
    }

    /// Refuses places in `/proc` and in the agent's directory. The second check is no
    /// security boundary, as a command can reach what its user can reach; it keeps a
    /// wrong path from breaking the sandbox.
    fn guard(&self) -> Result<(), FileError> {
        refuse_proc(&self.directory)?;
        let name = self.missing.first().unwrap_or(&self.name);
        guard(self.directory.as_fd(), name)
    }

    /// Creates the missing directories.
    ///
    /// # Errors
    /// The kernel's error, or a link that led to a refused place.
    pub fn make_directories(&mut self) -> Result<(), FileError> {
        for name in std::mem::take(&mut self.missing) {
            self.enter_new(&name)?;
        }
        Ok(())
    }

    fn enter_new(&mut self, name: &CStr) -> Result<(), FileError> {
        guard(self.directory.as_fd(), name)?;
        match mkdirat(&self.directory, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(other) => return Err(other.into()),
        }
        self.directory = open(&self.directory, name, DIRECTORY)?;
        Ok(())
    }

    /// Stats the name without following a symbolic link.
    ///
    /// # Errors
    /// The kernel's error; ENOTDIR if the path ends in a slash and this is no
    /// directory.
    pub fn look(&self) -> Result<Option<Stat>, Errno> {
        if !self.missing.is_empty() {
            return Ok(None);
        }
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if self.slash && kind(&stat) != FileType::Directory => Err(Errno::NOTDIR),
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// True if the path can only mean a directory.
    pub const fn means_directory(&self) -> bool {
        self.slash
    }

    /// True if the path ends in a name, which can be changed.
    pub fn is_named(&self) -> bool {
        self.name.as_bytes() != b"."
    }
}

/// Walks down through the existing directories. Returns the last one and the missing
/// names.
fn descend(start: OwnedFd, names: Vec<CString>) -> Result<(OwnedFd, Vec<CString>), Errno> {
    let mut directory = start;
    let mut names = names.into_iter();
    while let Some(name) = names.next() {
        match open(&directory, &name, DIRECTORY) {
            Ok(next) => directory = next,
            Err(Errno::NOENT) => {
                return Ok((directory, std::iter::once(name).chain(names).collect()));
            }
            Err(other) => return Err(other),
        }
    }
    Ok((directory, Vec::new()))
}

/// Walks up to the root and refuses the agent's directory on the way.
fn guard(directory: BorrowedFd<'_>, name: &CStr) -> Result<(), FileError> {
    let own = statat(CWD, c"/.hutch", AtFlags::SYMLINK_NOFOLLOW);
    let mut here = fstat(directory)?;
    if name == OWN && same(&here, &statat(CWD, c"/", AtFlags::empty())?) {
        return Err(FileError::OfTheAgent);
    }
    let Ok(own) = own else { return Ok(()) };
    let mut above: Option<OwnedFd> = None;
    for _ in 0..MAX_DEPTH {
        if same(&here, &own) {
            return Err(FileError::OfTheAgent);
        }
        let current = above.as_ref().map_or(directory, AsFd::as_fd);
        // A deleted directory, or one whose parents the agent cannot read, was not
        // reached through the agent's directory.
        let Ok(parent) = openat(current, c"..", DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
            return Ok(());
        };
        let there = fstat(&parent)?;
        if same(&here, &there) {
            return Ok(());
        }
        (above, here) = (Some(parent), there);
    }
    Ok(())
}
