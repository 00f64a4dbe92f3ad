//! Opens the path where a search starts.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::files::error::FileError;
use crate::files::place::{DIRECTORY_FLAGS, Home, Place, kind, open, refuse_proc};
use crate::files::read::open_regular;
use crate::files::request::Wanted;

/// The opened start of a search.
#[derive(Debug)]
pub enum Start {
    Directory(OwnedFd),
    File(OwnedFd),
    /// A device, pipe, socket, or a symbolic link that was not followed.
    Other,
}

/// Opens the path and follows symbolic links.
///
/// # Errors
/// If nothing is there, or the path is refused.
pub fn followed(home: &Home, wanted: &Wanted) -> Result<Start, FileError> {
    at(&home.follow(wanted)?)
}

/// Opens the path. A symbolic link at its end is followed only if a slash comes after
/// it.
///
/// # Errors
/// As for [`followed`].
pub fn itself(home: &Home, wanted: &Wanted) -> Result<Start, FileError> {
    let place = home.locate(wanted)?;
    if place.means_directory() {
        return followed(home, wanted);
    }
    at(&place)
}

fn at(place: &Place) -> Result<Start, FileError> {
    let stat = place.look()?.ok_or(Errno::NOENT)?;
    match kind(&stat) {
        FileType::Directory => {
            let directory = open(&place.directory, &place.name, DIRECTORY_FLAGS)?;
            refuse_proc(&directory)?;
            Ok(Start::Directory(directory))
        }
        FileType::RegularFile => open_regular(place).map(|(file, _)| Start::File(file)),
        _ => Ok(Start::Other),
    }
}
