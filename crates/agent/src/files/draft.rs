//! A file that is being written. It has a temporary name until it is complete.
//!
//! It is in the directory of its destination, or in the deepest existing one on the
//! path, so that one rename completes it; missing directories are created only then. If
//! it is dropped before that, it is deleted. Without `durable` nothing is flushed: the
//! data survives processes, pods and the detaching of the volume, because they all use
//! the same kernel. Only a node's crash could lose it, as it could lose what any
//! command writes. A flush takes many times as long as everything else here.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{
    Access, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, accessat, fchmod, fchown, fstat,
    fsync, openat, renameat, unlinkat,
};
use rustix::io::{Errno, write};
use rustix::rand::{GetRandomFlags, getrandom};

use super::error::FileError;
use super::place::{DIRECTORY_FLAGS, Place, kind};

const SET_ID_BITS: u32 = 0o6000;

/// An unfinished file.
#[derive(Debug)]
pub struct Draft {
    place: Place,
    /// The file whose mode and owner it takes.
    like: Option<Stat>,
    /// True if nothing was at the destination.
    created: bool,
    file: Option<OwnedFd>,
    size: u64,
    scratch: Scratch,
}

/// A temporary name. It is removed on drop unless `used` is set.
#[derive(Debug)]
struct Scratch {
    directory: OwnedFd,
    name: CString,
    used: bool,
}

impl Draft {
    /// Begins a file for `place`. Mode and owner are those of `like`, else of the file
    /// that it replaces, else those of a new file.
    ///
    /// # Errors
    /// If no file can be written there.
    pub fn begin(place: Place, like: Option<Stat>) -> Result<Self, FileError> {
        let there = place.look()?;
        match there.as_ref().map(kind) {
            // A symbolic link was followed before, or it is replaced itself.
            None | Some(FileType::RegularFile | FileType::Symlink) => {}
            Some(FileType::Directory) => return Err(FileError::Directory),
            Some(_) => return Err(FileError::Special),
        }
        if place.means_directory() || !place.is_named() {
            return Err(FileError::Directory);
        }
        let created = there.is_none();
        let replaced = there.filter(|there| kind(there) == FileType::RegularFile);
        if replaced.is_some() {
            let write = Access::WRITE_OK;
            accessat(&place.directory, &place.name, write, AtFlags::empty())?;
        }
        let like = like.or(replaced);
        // The content of a private file is private from the beginning.
        let mode = if like.is_some() { 0o600 } else { 0o666 };
        let (scratch, file) = Scratch::make(place.directory.try_clone(), mode)?;
        Ok(Self {
            place,
            like,
            created,
            file: Some(file),
            size: 0,
            scratch,
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The kernel's error, most often a full disk.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        let Some(file) = &self.file else {
            return Err(Errno::BADF.into());
        };
        while !bytes.is_empty() {
            match write(file, bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.size += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }

    /// Renames the file to its destination. Returns its size, and true if it is new.
    ///
    /// # Errors
    /// The kernel's error; then the destination is unchanged.
    pub fn commit(mut self, durable: bool) -> Result<(u64, bool), FileError> {
        let Some(file) = self.file.take() else {
            return Err(Errno::BADF.into());
        };
        if let Some(like) = &self.like {
            inherit(&file, like)?;
        }
        if durable {
            fsync(&file)?;
        }
        close(file)?;
        self.place.make_directories()?;
        renameat(
            &self.scratch.directory,
            &self.scratch.name,
            &self.place.directory,
            &self.place.name,
        )?;
        self.scratch.used = true;
        if durable {
            let directory = openat(&self.place.directory, c".", DIRECTORY_FLAGS, Mode::empty())?;
            fsync(directory)?;
        }
        Ok((self.size, self.created))
    }

    /// The open file, to set its metadata.
    pub const fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }
}

/// Copies owner and mode. If the owner cannot be set, the set-id bits are dropped: the
/// file must not give the rights of its new owner.
fn inherit(file: &OwnedFd, like: &Stat) -> Result<(), Errno> {
    let mine = fstat(file)?;
    let mut mode = like.st_mode & 0o7777;
    if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid) {
        let owner = Some(Uid::from_raw(like.st_uid));
        let group = Some(Gid::from_raw(like.st_gid));
        if fchown(file, owner, group).is_err() {
            mode &= !SET_ID_BITS;
            // Changing the group alone is often allowed.
            let _ = fchown(file, None, group);
        }
    }
    match fchmod(file, Mode::from_raw_mode(mode)) {
        // A mounted bucket has no modes.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

/// Closes a file and returns the error of close(2): buckets and network file systems
/// report there that they could not store the data.
fn close(file: OwnedFd) -> Result<(), Errno> {
    match nix::unistd::close(file) {
        Ok(()) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(problem) => Err(Errno::from_raw_os_error(problem as i32)),
    }
}

impl Scratch {
    fn make(directory: std::io::Result<OwnedFd>, mode: u32) -> Result<(Self, OwnedFd), Errno> {
        let directory =
            directory.map_err(|problem| Errno::from_io_error(&problem).unwrap_or(Errno::IO))?;
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let text = format!(".hutch-{:016x}.tmp", u64::from_ne_bytes(random));
        let name = CString::new(text).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&directory, &name, flags, Mode::from_raw_mode(mode))?;
        let used = false;
        Ok((
            Self {
                directory,
                name,
                used,
            },
            file,
        ))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.used {
            let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}
