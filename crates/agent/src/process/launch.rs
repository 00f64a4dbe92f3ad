//! Starts one process, in a session and process group of its own.
//!
//! It uses `posix_spawn` instead of `fork`: the agent's memory is not copied, so a
//! start is cheap however much memory the agent has. The child gets default signal
//! handling and an empty signal mask, because the agent blocks every signal.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno as NixErrno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::program::Missing;
use super::shell::Shell;
use super::{Environment, Pid, program};

/// Descriptor number of a script file in the child; out of the range that scripts use.
pub const INHERITED: i32 = 100;

/// The parameters of a start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The arguments, the program's name first; never empty.
    pub arguments: &'a [CString],
    /// The program's file if known; otherwise the first argument is looked up.
    pub file: Option<&'a CStr>,
    pub environment: &'a Environment,
    pub stdin: BorrowedFd<'a>,
    /// Standard output and error; `None` means the agent's own.
    pub output: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// More files and their descriptor numbers in the child.
    pub inherited: &'a [(BorrowedFd<'a>, i32)],
}

/// The reason why no process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLaunched {
    /// There is no such program.
    NotFound,
    /// The file exists, but the interpreter in its first line does not.
    NoInterpreter,
    /// The file cannot be run.
    NotExecutable(Errno),
    /// The sandbox has no processes, memory or descriptors left.
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
/// [`NotLaunched`]; then there is no process.
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
        // The file exists, so its interpreter is missing.
        Errno::NOENT if program::check(file).is_ok() => NotLaunched::NoInterpreter,
        Errno::NOENT | Errno::NOTDIR => NotLaunched::NotFound,
        Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE => NotLaunched::Exhausted(errno),
        _ => NotLaunched::NotExecutable(errno),
    }
}

/// Duplicates the files whose number in the agent is also a target number in the child:
/// dup2 would overwrite them before their turn.
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
