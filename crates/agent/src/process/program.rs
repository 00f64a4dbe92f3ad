//! Finds a program by name, as `execvp` and shells do. It starts nothing.

use std::ffi::{CStr, CString};

use rustix::fs::{Access, CWD, FileType, accessat, stat};
use rustix::io::Errno;

/// The reason why a name cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There is no such file: exit code 127.
    NotFound,
    /// The file exists but is not executable: exit code 126.
    NotExecutable(Errno),
}

/// Finds the file for `name`. A name with a slash is a path; any other name is looked
/// up in `path`, where empty parts mean the current directory.
///
/// # Errors
/// [`Missing`] if no part of `path` has such a program.
pub fn find(name: &CStr, path: &[u8]) -> Result<CString, Missing> {
    if name.to_bytes().contains(&b'/') {
        return check(name).map(|()| name.to_owned());
    }
    let mut answer = Missing::NotFound;
    if name.is_empty() {
        return Err(answer);
    }
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let Ok(candidate) = CString::new([directory, b"/", name.to_bytes()].concat()) else {
            continue;
        };
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Missing::NotFound) => {}
            Err(found) => answer = found,
        }
    }
    Err(answer)
}

/// Checks that this file can be run.
///
/// # Errors
/// [`Missing`] if not.
pub fn check(file: &CStr) -> Result<(), Missing> {
    let status = stat(file).map_err(|problem| match problem {
        Errno::NOENT | Errno::NOTDIR => Missing::NotFound,
        other => Missing::NotExecutable(other),
    })?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => accessat(CWD, file, Access::EXEC_OK, rustix::fs::AtFlags::empty())
            .map_err(Missing::NotExecutable),
        FileType::Directory => Err(Missing::NotExecutable(Errno::ISDIR)),
        _ => Err(Missing::NotExecutable(Errno::ACCESS)),
    }
}

/// The text of an error as shells print it, without a number.
pub fn describe(problem: Errno) -> &'static str {
    nix::errno::Errno::from_raw(problem.raw_os_error()).desc()
}
