//! Finding a program by its name, as `execvp` and the shells do.
//! Nothing is started here.

use std::ffi::{CStr, CString};

use rustix::fs::{Access, CWD, FileType, accessat, stat};
use rustix::io::Errno;

/// Why a name cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There is nothing of that name: exit code 127.
    NotFound,
    /// There is, but it is no program: exit code 126.
    NotExecutable(Errno),
}

/// The file that `name` stands for. A name with a slash is a path, any other is
/// looked for in `path`, whose empty parts mean the current directory.
///
/// # Errors
/// [`Missing`], where no part of `path` has a program of that name.
pub fn find(name: &CStr, path: &[u8]) -> Result<CString, Missing> {
    if name.to_bytes().contains(&b'/') {
        return check(name).map(|()| name.to_owned());
    }
    let mut answer = Missing::NotFound;
    if name.is_empty() {
        return Err(answer);
    }
    for folder in path.split(|byte| *byte == b':') {
        let folder = if folder.is_empty() { b"." } else { folder };
        let Ok(candidate) = CString::new([folder, b"/", name.to_bytes()].concat()) else {
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

/// Whether this very file can be run.
///
/// # Errors
/// [`Missing`], where not.
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

/// The text of an error as every shell prints it, without a number.
pub fn describe(problem: Errno) -> &'static str {
    nix::errno::Errno::from_raw(problem.raw_os_error()).desc()
}
