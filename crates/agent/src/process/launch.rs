//! Starting one process, in a session and process group of its own.
//!
//! `posix_spawn` and not `fork`: the agent's memory is not copied, which keeps
//! a start cheap however much the agent holds. The child begins with default
//! signal handling and an empty mask, for the agent blocks every signal.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno as NixErrno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::program::Missing;
use super::shell::Shell;
use super::{Environment, Pid, program};

/// Number under which the child has a script that is a file; out of the way of
/// those that scripts use.
pub const INHERITED: i32 = 100;

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The arguments, the program's name first; never empty.
    pub arguments: &'a [CString],
    /// The program's file, where it is known; else the first argument is
    /// looked for.
    pub file: Option<&'a CStr>,
    /// Its environment.
    pub environment: &'a Environment,
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output and error; none: the agent's own.
    pub output: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Further files and their numbers in the child.
    pub inherited: &'a [(BorrowedFd<'a>, i32)],
}

/// Why nothing was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLaunched {
    /// There is no such program.
    NotFound,
    /// The program's file is there, but not the interpreter that it names.
    NoInterpreter,
    /// The file cannot be run.
    NotExecutable(Errno),
    /// The sandbox has no processes, memory or files left.
    Exhausted(Errno),
}

impl From<Missing> for NotLaunched {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::NotFound => Self::NotFound,
            Missing::NotExecutable(problem) => Self::NotExecutable(problem),
        }
    }
}

/// Starts a process and returns once its program runs.
///
/// # Errors
/// [`NotLaunched`]; then no process is left.
pub fn launch(what: &Launch<'_>) -> Result<Pid, NotLaunched> {
    let name = what.arguments.first().ok_or(NotLaunched::NotFound)?;
    let found;
    let file = match what.file {
        Some(file) => file,
        None => {
            found = program::find(name, what.environment.path())?;
            &found
        }
    };
    match spawn(file, what.arguments, what) {
        Err(NixErrno::ENOEXEC) => {
            let shell = Shell::posix(what.environment.path())
                .ok_or(NotLaunched::NotExecutable(Errno::NOEXEC))?;
            let arguments = shell.interpret(file, what.arguments);
            spawn(&shell.file, &arguments, what)
        }
        other => other,
    }
    .map_err(|problem| reason(problem, file))
}

fn reason(problem: NixErrno, file: &CStr) -> NotLaunched {
    let errno = Errno::from_raw_os_error(problem as i32);
    match errno {
        // The file was there a moment ago: what its first line names is not.
        Errno::NOENT if program::check(file).is_ok() => NotLaunched::NoInterpreter,
        Errno::NOENT | Errno::NOTDIR => NotLaunched::NotFound,
        Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE => NotLaunched::Exhausted(errno),
        _ => NotLaunched::NotExecutable(errno),
    }
}

/// Copies of those files whose number in the agent is one that the child will
/// have for another: it would be gone before its turn.
fn clear_of(inherited: &[(BorrowedFd<'_>, i32)]) -> Result<Vec<Option<OwnedFd>>, NixErrno> {
    let highest = inherited.iter().map(|(_, number)| *number).max();
    let taken = |file: i32| inherited.iter().any(|(_, number)| *number == file);
    let copy = |(file, _): &(BorrowedFd<'_>, i32)| {
        if !taken(file.as_raw_fd()) {
            return Ok(None);
        }
        let copy = fcntl_dupfd_cloexec(file, highest.unwrap_or_default() + 1);
        copy.map(Some)
            .map_err(|problem| NixErrno::from_raw(problem.raw_os_error()))
    };
    inherited.iter().map(copy).collect()
}

fn spawn(file: &CStr, arguments: &[CString], what: &Launch<'_>) -> Result<Pid, NixErrno> {
    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_dup2(what.stdin.as_raw_fd(), 0)?;
    if let Some((stdout, stderr)) = what.output {
        actions.add_dup2(stdout.as_raw_fd(), 1)?;
        actions.add_dup2(stderr.as_raw_fd(), 2)?;
    }
    let moved = clear_of(what.inherited)?;
    for ((file, number), moved) in what.inherited.iter().zip(&moved) {
        let file = moved.as_ref().map_or(*file, AsFd::as_fd);
        actions.add_dup2(file.as_raw_fd(), *number)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into()),
    )?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    let variables = what.environment.variables();
    let pid = posix_spawn(file, &actions, &attributes, arguments, variables)?;
    Pid::from_raw(pid.as_raw()).ok_or(NixErrno::ECHILD)
}
