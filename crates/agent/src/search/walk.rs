//! A walk through a folder and all below it, one entry at a time.
//!
//! Symbolic links are not followed, and what is mounted into itself is entered
//! once. `/proc` and the agent's own folder are passed over. Memory and
//! descriptors are bounded, however wide and deep the folders are: names are
//! read in batches, and only the deepest folders are kept open; those above are
//! found again as their children's parents.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, OFlags, RawDir, fstat, statat};
use rustix::io::Errno;

use crate::files::place::{FOLDER_ITSELF, kind, open, refuse_proc};

/// Names of a folder that are read, and sorted, at once.
const BATCH: usize = 16 << 10;
/// Names kept of all folders on the way, past which batches are small.
const HELD: usize = 64 << 10;
/// Folders kept open.
const OPEN: usize = 32;
/// Deepest folder, as seen from the first.
const DEEPEST: usize = 4096;
/// How much of a folder the kernel gives at once, and how much of it if memory
/// is short.
const PIECE: usize = 32 << 10;
const SMALL_PIECE: usize = 4 << 10;

/// What the walk comes across. Its path is [`Walk::path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An entry. A folder is entered next, unless it is skipped.
    Entry(FileType),
    /// A folder that cannot be entered or read.
    Closed(Errno),
}

/// Device and inode.
type Id = (u64, u64);

/// A walk.
#[derive(Debug)]
pub struct Walk {
    levels: Vec<Level>,
    path: Vec<u8>,
    name: CString,
    enters: bool,
    held: usize,
    own: Option<Id>,
    buffer: Vec<MaybeUninit<u8>>,
    truncated: bool,
}

#[derive(Debug)]
struct Level {
    /// None while it is not among the deepest.
    folder: Option<OwnedFd>,
    id: Id,
    /// The last one is next.
    names: Vec<(CString, FileType)>,
    /// There are names after those.
    more: bool,
    /// Length of its path.
    path: usize,
}

impl Walk {
    /// Through what is in `folder`; paths begin with `path`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new(folder: OwnedFd, path: &[u8]) -> Result<Self, Errno> {
        let own = statat(CWD, c"/.hutch", AtFlags::SYMLINK_NOFOLLOW);
        let mut walk = Self {
            levels: Vec::new(),
            path: path.to_vec(),
            name: CString::default(),
            enters: false,
            held: 0,
            own: own.ok().map(|own| (own.st_dev, own.st_ino)),
            buffer: vec![MaybeUninit::uninit(); PIECE],
            truncated: false,
        };
        walk.enter(folder)?;
        Ok(walk)
    }

    /// Goes on to what comes next; nothing at the end.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if std::mem::take(&mut self.enters)
                && let Err(problem) = self.open(FOLDER_ITSELF).and_then(|it| self.enter(it))
            {
                return Some(Event::Closed(problem));
            }
            let level = self.levels.last_mut()?;
            self.path.truncate(level.path);
            if let Some((name, kind)) = level.names.pop() {
                self.held -= 1;
                if !self.path.ends_with(b"/") {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(name.as_bytes());
                self.name = name;
                self.enters = kind == FileType::Directory;
                return Some(Event::Entry(kind));
            }
            if !level.more {
                self.leave();
            } else if let Err(problem) = self.read() {
                return Some(Event::Closed(problem));
            }
        }
    }

    /// Passes over what is in the last entry.
    pub const fn skip(&mut self) {
        self.enters = false;
    }

    /// The path of the last event.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The name of the last entry.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// How deep the last entry is; 1 in the folder that the walk began at.
    pub const fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Whether something was passed over to bound memory or descriptors.
    pub const fn truncated(&self) -> bool {
        self.truncated
    }

    /// Opens the last entry.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let level = self.levels.last().and_then(|level| level.folder.as_ref());
        open(level.ok_or(Errno::NOENT)?, &self.name, flags)
    }

    fn enter(&mut self, folder: OwnedFd) -> Result<(), Errno> {
        let stat = fstat(&folder)?;
        let id = (stat.st_dev, stat.st_ino);
        if self.own == Some(id) || refuse_proc(&folder).is_err() {
            return Ok(());
        }
        if self.levels.iter().any(|level| level.id == id) {
            return Err(Errno::LOOP);
        }
        if self.levels.len() == DEEPEST {
            return Err(Errno::NAMETOOLONG);
        }
        self.levels.push(Level {
            folder: Some(folder),
            id,
            names: Vec::new(),
            more: true,
            path: self.path.len(),
        });
        let above = self.levels.len().checked_sub(OPEN + 1);
        if let Some(level) = above.and_then(|above| self.levels.get_mut(above)) {
            level.folder = None;
            self.truncated |= std::mem::take(&mut level.more);
        }
        self.read().inspect_err(|_| self.leave())
    }

    /// Reads the next names of the deepest folder.
    fn read(&mut self) -> Result<(), Errno> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        level.more = false;
        let (most, piece) = if self.held < HELD {
            (BATCH, PIECE)
        } else {
            (1, SMALL_PIECE)
        };
        let folder = level.folder.as_ref().ok_or(Errno::NOENT)?;
        let mut entries = RawDir::new(folder, &mut self.buffer[..piece]);
        while !(entries.is_buffer_empty() && level.names.len() >= most) {
            let Some(entry) = entries.next() else { break };
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| kind(&stat)),
                known => known,
            };
            level.names.push((name.to_owned(), kind));
            self.held += 1;
        }
        level.more = level.names.len() >= most;
        level
            .names
            .sort_unstable_by(|one, other| other.0.cmp(&one.0));
        Ok(())
    }

    /// Goes back up.
    fn leave(&mut self) {
        let Some(gone) = self.levels.pop() else {
            return;
        };
        self.held -= gone.names.len();
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        if level.folder.is_some() {
            return;
        }
        let above = gone
            .folder
            .and_then(|gone| open(gone, c"..", FOLDER_ITSELF).ok());
        level.folder = above.filter(|folder| {
            fstat(folder).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == level.id)
        });
        if level.folder.is_none() {
            // It was moved meanwhile.
            self.truncated = true;
            self.held -= level.names.len();
            level.names.clear();
        }
    }
}
