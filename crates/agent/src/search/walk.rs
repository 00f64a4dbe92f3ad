//! Walks through a directory tree, one entry at a time.
//!
//! Symbolic links are not followed. A directory that is mounted into itself is entered
//! once. `/proc` and the agent's own directory are skipped. Memory and descriptors are
//! bounded for trees of any width and depth: names are read in batches and only the
//! deepest directories stay open; the upper ones are opened again as parents of their
//! children.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, OFlags, RawDir, fstat, statat};
use rustix::io::Errno;

use crate::files::place::{DIRECTORY_FLAGS, kind, open, refuse_proc};

/// Names of one directory that are read and sorted at once.
const NAMES_PER_BATCH: usize = 16 << 10;
/// Most names in memory for all open levels; above it, batches are small.
const MAX_HELD_NAMES: usize = 64 << 10;
/// Most directories that stay open.
const MAX_OPEN_DIRECTORIES: usize = 32;
/// Deepest level below the start.
const MAX_DEPTH: usize = 4096;
/// Bytes of directory entries in one system call, usually and when memory is short.
const READ_BUFFER_BYTES: usize = 32 << 10;
const SMALL_READ_BUFFER_BYTES: usize = 4 << 10;

/// One step of the walk. Its path is [`Walk::path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An entry. A directory is entered next unless it is skipped.
    Entry(FileType),
    /// A directory that cannot be entered or read.
    Closed(Errno),
}

/// Device and inode.
type Id = (u64, u64);

/// The state of a walk.
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
    /// `None` while it is not among the deepest.
    directory: Option<OwnedFd>,
    id: Id,
    /// The names left, in reverse order.
    names: Vec<(CString, FileType)>,
    /// True if the directory has more names.
    more: bool,
    /// Length of its path.
    path: usize,
}

impl Walk {
    /// Walks through `directory`; the paths begin with `path`.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn new(directory: OwnedFd, path: &[u8]) -> Result<Self, Errno> {
        let own = statat(CWD, c"/.hutch", AtFlags::SYMLINK_NOFOLLOW);
        let mut walk = Self {
            levels: Vec::new(),
            path: path.to_vec(),
            name: CString::default(),
            enters: false,
            held: 0,
            own: own.ok().map(|own| (own.st_dev, own.st_ino)),
            buffer: vec![MaybeUninit::uninit(); READ_BUFFER_BYTES],
            truncated: false,
        };
        walk.enter(directory)?;
        Ok(walk)
    }

    /// Moves to the next entry; `None` at the end.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if std::mem::take(&mut self.enters)
                && let Err(problem) = self.open(DIRECTORY_FLAGS).and_then(|it| self.enter(it))
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

    /// Skips the content of the last entry.
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

    /// Depth of the last entry; 1 in the start directory.
    pub const fn depth(&self) -> usize {
        self.levels.len()
    }

    /// True if something was skipped to bound memory or descriptors.
    pub const fn truncated(&self) -> bool {
        self.truncated
    }

    /// Opens the last entry.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let level = self
            .levels
            .last()
            .and_then(|level| level.directory.as_ref());
        open(level.ok_or(Errno::NOENT)?, &self.name, flags)
    }

    fn enter(&mut self, directory: OwnedFd) -> Result<(), Errno> {
        let stat = fstat(&directory)?;
        let id = (stat.st_dev, stat.st_ino);
        if self.own == Some(id) || refuse_proc(&directory).is_err() {
            return Ok(());
        }
        if self.levels.iter().any(|level| level.id == id) {
            return Err(Errno::LOOP);
        }
        if self.levels.len() == MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        self.levels.push(Level {
            directory: Some(directory),
            id,
            names: Vec::new(),
            more: true,
            path: self.path.len(),
        });
        let above = self.levels.len().checked_sub(MAX_OPEN_DIRECTORIES + 1);
        if let Some(level) = above.and_then(|above| self.levels.get_mut(above)) {
            level.directory = None;
            self.truncated |= std::mem::take(&mut level.more);
        }
        self.read().inspect_err(|_| self.leave())
    }

    /// Reads the next names of the deepest directory.
    fn read(&mut self) -> Result<(), Errno> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        level.more = false;
        let (most, piece) = if self.held < MAX_HELD_NAMES {
            (NAMES_PER_BATCH, READ_BUFFER_BYTES)
        } else {
            (1, SMALL_READ_BUFFER_BYTES)
        };
        let directory = level.directory.as_ref().ok_or(Errno::NOENT)?;
        let mut entries = RawDir::new(directory, &mut self.buffer[..piece]);
        while !(entries.is_buffer_empty() && level.names.len() >= most) {
            let Some(entry) = entries.next() else { break };
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
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

    /// Returns to the parent directory.
    fn leave(&mut self) {
        let Some(gone) = self.levels.pop() else {
            return;
        };
        self.held -= gone.names.len();
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        if level.directory.is_some() {
            return;
        }
        let above = gone
            .directory
            .and_then(|gone| open(gone, c"..", DIRECTORY_FLAGS).ok());
        level.directory = above.filter(|directory| {
            fstat(directory).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == level.id)
        });
        if level.directory.is_none() {
            // The directory was moved meanwhile.
            self.truncated = true;
            self.held -= level.names.len();
            level.names.clear();
        }
    }
}
