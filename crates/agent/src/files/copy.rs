//! A rename to another file system: copies the file under a temporary name, renames the
//! copy, then deletes the original. In between both exist; there is no moment without
//! either.

use rustix::fs::{
    AtFlags, FileType, Stat, Timespec, Timestamps, futimens, readlinkat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::draft::Draft;
use super::error::FileError;
use super::place::{Place, kind};
use super::read::{fill, open_regular};

const COPY_BUFFER_BYTES: usize = 256 << 10;

/// Moves a file or a symbolic link.
///
/// # Errors
/// The kernel's error; directories, devices, pipes and sockets are refused.
pub fn across(from: &Place, source: &Stat, to: Place) -> Result<(), FileError> {
    match kind(source) {
        FileType::RegularFile => copy_file(from, to)?,
        FileType::Symlink => copy_link(from, &to)?,
        FileType::Directory => return Err(FileError::DirectoryAcross),
        _ => return Err(FileError::Special),
    }
    Ok(unlinkat(&from.directory, &from.name, AtFlags::empty())?)
}

fn copy_file(from: &Place, to: Place) -> Result<(), FileError> {
    let (file, stat) = open_regular(from)?;
    let mut draft = Draft::begin(to, Some(stat))?;
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        let count = fill(&file, &mut buffer)?;
        draft.write(&buffer[..count])?;
        if count < buffer.len() {
            break;
        }
    }
    if let Some(copy) = draft.file() {
        futimens(copy, &times(&stat))?;
    }
    draft.commit(false)?;
    Ok(())
}

/// A link cannot be half written: if the new name is free, one call creates it;
/// otherwise the old name is removed first.
fn copy_link(from: &Place, to: &Place) -> Result<(), FileError> {
    let link = readlinkat(&from.directory, &from.name, Vec::new())?;
    match symlinkat(&link, &to.directory, &to.name) {
        Err(Errno::EXIST) => {
            unlinkat(&to.directory, &to.name, AtFlags::empty())?;
            Ok(symlinkat(&link, &to.directory, &to.name)?)
        }
        other => Ok(other?),
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
