//! `MakeFolder`, `Rename` and `Delete`. On one file system each changes one name in one system
//! call.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, renameat, unlinkat};
use rustix::io::Errno;

use super::copy;
use super::error::FileError;
use super::place::{Home, kind, open, same};
use super::request::Wanted;

/// Creates a directory. Returns true if it is new.
///
/// # Errors
/// As in the protocol.
pub fn make_directory(home: &Home, wanted: &Wanted, recursive: bool) -> Result<bool, FileError> {
    let mut place = home.locate(wanted)?;
    if !place.missing.is_empty() && !recursive {
        return Err(Errno::NOENT.into());
    }
    place.make_directories()?;
    match mkdirat(&place.directory, &place.name, Mode::from_raw_mode(0o777)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) if recursive && is_directory(&place.directory, &place.name) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

fn is_directory(directory: &std::os::fd::OwnedFd, name: &std::ffi::CStr) -> bool {
    let opened = open(directory, name, OFlags::PATH | OFlags::DIRECTORY);
    opened.and_then(fstat).is_ok()
}

/// Renames `from` to `to`.
///
/// # Errors
/// As in the protocol.
pub fn rename(home: &Home, from: &Wanted, to: &Wanted) -> Result<(), FileError> {
    let from = home.locate(from)?;
    let source = from.look()?.ok_or(Errno::NOENT)?;
    let to = home.locate(to)?;
    if !from.is_named() {
        return Err(FileError::NoName);
    }
    if !to.missing.is_empty() {
        return Err(Errno::NOENT.into());
    }
    let directory = kind(&source) == FileType::Directory;
    match to.look()? {
        Some(there) if same(&there, &source) => {}
        Some(there) if kind(&there) == FileType::Directory => return Err(FileError::Taken),
        Some(_) if directory => return Err(Errno::EXIST.into()),
        None if to.means_directory() && !directory => return Err(Errno::NOTDIR.into()),
        _ => {}
    }
    match renameat(&from.directory, &from.name, &to.directory, &to.name) {
        Err(Errno::XDEV) => copy::across(&from, &source, to),
        other => Ok(other?),
    }
}

/// Deletes a name that is not a directory.
///
/// # Errors
/// As in the protocol.
pub fn delete(home: &Home, wanted: &Wanted) -> Result<(), FileError> {
    let place = home.locate(wanted)?;
    let there = place.look()?.ok_or(Errno::NOENT)?;
    if kind(&there) == FileType::Directory {
        return Err(FileError::Directory);
    }
    Ok(unlinkat(&place.directory, &place.name, AtFlags::empty())?)
}
