//! Where a path leads, found by the kernel (`openat2`) in the sandbox's root.
//!
//! A place is an open folder and a name in it, so that what was checked is what
//! is used, whatever is renamed meanwhile. Links of `/proc` that lead to files
//! without a path are never followed: they would lead into the agent's own
//! descriptors. Nothing here changes anything but [`Place::make_folders`].

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat, fstat, fstatfs,
    mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::request::Wanted;
use super::trouble::Trouble;

/// As many as the kernel follows.
const LINKS: usize = 40;
/// No path is deeper than it has bytes.
const DEEPEST: usize = hutch_wire::limits::MAX_PATH;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
/// How a folder is opened whose entries are to be read or flushed.
pub const FOLDER_ITSELF: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
/// The agent's folder in the root.
const OWN: &CStr = c".hutch";

/// Where relative paths begin.
#[derive(Debug)]
pub struct Home(OwnedFd);

/// A name in a folder; whether something has that name is another question.
#[derive(Debug)]
pub struct Place {
    /// The folder, or the deepest one on the way to it that exists.
    pub folder: OwnedFd,
    /// The folders below it that do not exist.
    pub missing: Vec<CString>,
    /// The name; `.` where the path names the folder itself.
    pub name: CString,
    /// The path ends in a slash, so only a folder is meant.
    slash: bool,
}

/// Opens a path as it would be for any program of the sandbox, but for the
/// links of `/proc`.
///
/// # Errors
/// What the kernel says.
pub fn open(folder: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    loop {
        let resolve = ResolveFlags::NO_MAGICLINKS;
        match openat2(folder.as_fd(), path, flags, Mode::empty(), resolve) {
            // A mounted bucket may be interrupted.
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// What kind of thing it is.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether both are the same thing.
pub fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Refuses what belongs to `/proc`: `self` would be the agent.
///
/// # Errors
/// [`Trouble::OfTheKernel`].
pub fn refuse_proc(file: impl AsFd) -> Result<(), Trouble> {
    if fstatfs(file)?.f_type == PROC_SUPER_MAGIC {
        return Err(Trouble::OfTheKernel);
    }
    Ok(())
}

impl Home {
    /// The directory the agent was started in.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn current() -> Result<Self, Errno> {
        openat(CWD, c".", FOLDER | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }

    /// The folder that the path begins at.
    ///
    /// # Errors
    /// When the request's one cannot be entered.
    pub fn start(&self, wanted: &Wanted) -> Result<OwnedFd, Errno> {
        match &wanted.base {
            Some(base) if !wanted.path.as_bytes().starts_with(b"/") => open(&self.0, base, FOLDER),
            _ => open(&self.0, c".", FOLDER),
        }
    }

    /// Where the path leads, a symbolic link at its end not followed.
    ///
    /// # Errors
    /// When the way there is none, or the place is not the user's.
    pub fn locate(&self, wanted: &Wanted) -> Result<Place, Trouble> {
        let place = Place::below(self.start(wanted)?, wanted.path.as_bytes())?;
        place.guard()?;
        Ok(place)
    }

    /// Where the path leads, all symbolic links followed.
    ///
    /// # Errors
    /// As for [`Home::locate`].
    pub fn follow(&self, wanted: &Wanted) -> Result<Place, Trouble> {
        let mut place = self.locate(wanted)?;
        for _ in 0..LINKS {
            if !place.missing.is_empty() {
                return Ok(place);
            }
            let link = match readlinkat(&place.folder, &place.name, Vec::new()) {
                Ok(link) => link,
                Err(Errno::INVAL | Errno::NOENT) => return Ok(place),
                Err(other) => return Err(other.into()),
            };
            // The kernel decides whether it may be followed.
            match open(&place.folder, &place.name, OFlags::PATH) {
                Ok(_) | Err(Errno::NOENT) => {}
                Err(other) => return Err(other.into()),
            }
            let slash = place.slash;
            place = Place::below(place.folder, link.as_bytes())?;
            place.slash |= slash;
            place.guard()?;
        }
        Err(Errno::LOOP.into())
    }
}

impl Place {
    /// Splits a path into its folder and its name.
    fn below(start: OwnedFd, path: &[u8]) -> Result<Self, Errno> {
        let start = match path.first() {
            Some(b'/') => open(&start, c"/", FOLDER)?,
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
        let (folder, missing) = descend(start, names)?;
        Ok(Self {
            folder,
            missing,
            name,
            slash,
        })
    }

    /// Refuses places in `/proc` and in the agent's folder. The latter protects
    /// nobody from a command, which can reach what its user may reach; it keeps
    /// a mistaken path from breaking the sandbox.
    fn guard(&self) -> Result<(), Trouble> {
        refuse_proc(&self.folder)?;
        let name = self.missing.first().unwrap_or(&self.name);
        guard(self.folder.as_fd(), name)
    }

    /// Makes the missing folders.
    ///
    /// # Errors
    /// What the kernel says; or that a link led to where nothing may be made.
    pub fn make_folders(&mut self) -> Result<(), Trouble> {
        for name in std::mem::take(&mut self.missing) {
            self.enter_new(&name)?;
        }
        Ok(())
    }

    fn enter_new(&mut self, name: &CStr) -> Result<(), Trouble> {
        guard(self.folder.as_fd(), name)?;
        match mkdirat(&self.folder, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(other) => return Err(other.into()),
        }
        self.folder = open(&self.folder, name, FOLDER)?;
        Ok(())
    }

    /// What has the name, a symbolic link not followed.
    ///
    /// # Errors
    /// What the kernel says; ENOTDIR, where only a folder is meant and it is
    /// none.
    pub fn look(&self) -> Result<Option<Stat>, Errno> {
        if !self.missing.is_empty() {
            return Ok(None);
        }
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if self.slash && kind(&stat) != FileType::Directory => Err(Errno::NOTDIR),
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Whether the path can only mean a folder.
    pub const fn means_folder(&self) -> bool {
        self.slash
    }

    /// Whether the path ends in a name, which can be changed.
    pub fn is_named(&self) -> bool {
        self.name.as_bytes() != b"."
    }
}

/// Walks down as far as there are folders.
fn descend(start: OwnedFd, names: Vec<CString>) -> Result<(OwnedFd, Vec<CString>), Errno> {
    let mut folder = start;
    let mut names = names.into_iter();
    while let Some(name) = names.next() {
        match open(&folder, &name, FOLDER) {
            Ok(next) => folder = next,
            Err(Errno::NOENT) => return Ok((folder, std::iter::once(name).chain(names).collect())),
            Err(other) => return Err(other),
        }
    }
    Ok((folder, Vec::new()))
}

/// Walks up to the root, past the agent's folder or not.
fn guard(folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Trouble> {
    let own = statat(CWD, c"/.hutch", AtFlags::SYMLINK_NOFOLLOW);
    let mut here = fstat(folder)?;
    if name == OWN && same(&here, &statat(CWD, c"/", AtFlags::empty())?) {
        return Err(Trouble::OfTheAgent);
    }
    let Ok(own) = own else { return Ok(()) };
    let mut above: Option<OwnedFd> = None;
    for _ in 0..DEEPEST {
        if same(&here, &own) {
            return Err(Trouble::OfTheAgent);
        }
        let current = above.as_ref().map_or(folder, AsFd::as_fd);
        // A folder that was deleted, or whose parents are closed to the agent,
        // was not reached through the agent's.
        let Ok(parent) = openat(current, c"..", FOLDER | OFlags::CLOEXEC, Mode::empty()) else {
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
