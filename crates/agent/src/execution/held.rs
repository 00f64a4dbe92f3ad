//! A shell that waits for its script: started ahead, with its pipes, and told
//! on a line of its own to go. Who keeps such shells, how many, and what they
//! do before and after their script is not known here.
//!
//! The shell has one end of the line, and reads one line from it; at the end of
//! the line without a word it goes away by itself. What it says there in turn
//! is for those who expect it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::pwrite;
use rustix::process::{Signal, kill_process_group};
use tokio::net::unix::pipe::Sender;
use tokio::sync::oneshot::error::TryRecvError;
use tonic::Status;

use super::start::{Started, exhausted, output_pipe, pipe};
use crate::process::{Environment, Launch, NotLaunched, Reaper, launch, reaper};

/// How to start one.
#[derive(Debug)]
pub struct Hold<'a> {
    /// The shell's binary.
    pub file: &'a CStr,
    /// Its arguments: they make it wait.
    pub arguments: &'a [CString],
    /// Its environment.
    pub environment: &'a Environment,
    /// Its standard input, where the client does not feed it.
    pub nothing: BorrowedFd<'a>,
    /// Whether the client feeds it.
    pub fed: bool,
    /// The numbers that it has the line and its script under.
    pub numbers: [i32; 2],
    /// Further files and their numbers.
    pub inherited: &'a [(BorrowedFd<'a>, i32)],
}

/// A shell that waits. Dropped, it goes away by itself.
#[derive(Debug)]
pub struct Held {
    started: Started,
    line: UnixStream,
    script: OwnedFd,
}

impl Held {
    /// Starts one.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, where the sandbox cannot have another process.
    pub fn start(hold: &Hold<'_>, reaper: &Reaper) -> Result<Self, Status> {
        let (stdout, stdout_child) = output_pipe()?;
        let (stderr, stderr_child) = output_pipe()?;
        let (line, line_child) = UnixStream::pair().map_err(exhausted)?;
        line.set_nonblocking(true).map_err(exhausted)?;
        let script = memory(b"").map_err(exhausted)?;
        let (stdin_child, stdin) = input(hold.fed)?;
        let [line_number, script_number] = hold.numbers;
        let own = [
            (line_child.as_fd(), line_number),
            (script.as_fd(), script_number),
        ];
        let main = launch(&Launch {
            arguments: hold.arguments,
            file: Some(hold.file),
            environment: hold.environment,
            stdin: stdin_child.as_ref().map_or(hold.nothing, AsFd::as_fd),
            output: Some((stdout_child.as_fd(), stderr_child.as_fd())),
            inherited: &[&own, hold.inherited].concat(),
        })
        .map_err(not_started)?;
        let started = Started {
            main,
            ended: reaper.watch(main),
            stdout,
            stderr,
            stdin,
        };
        Ok(Self {
            started,
            line,
            script,
        })
    }

    /// Whether it still waits. One that is just being killed counts as waiting;
    /// then its script ends by that signal before it has begun.
    pub fn lives(&mut self) -> bool {
        let told = self.started.ended.try_recv();
        told == Err(TryRecvError::Empty) && reaper::runs(self.started.main)
    }

    /// Has it run its script. Gives the agent's end of the line, too.
    ///
    /// # Errors
    /// When it is gone, or there is no memory for the script; then it is killed.
    pub fn go(self, script: &[u8]) -> io::Result<(Started, UnixStream)> {
        let told =
            fill(&self.script, script).and_then(|()| Ok(rustix::io::write(&self.line, b"\n")?));
        if let Err(problem) = told {
            let _ = kill_process_group(self.started.main, Signal::KILL);
            return Err(problem);
        }
        Ok((self.started, self.line))
    }
}

/// The child's and the agent's end of standard input, if it is fed.
///
/// # Errors
/// RESOURCE_EXHAUSTED, where there are no descriptors left.
pub fn input(fed: bool) -> Result<(Option<OwnedFd>, Option<Sender>), Status> {
    if !fed {
        return Ok((None, None));
    }
    let (child, ours) = pipe()?;
    let ours = Sender::from_owned_fd(ours).map_err(exhausted)?;
    Ok((Some(child), Some(ours)))
}

fn not_started(problem: NotLaunched) -> Status {
    Status::resource_exhausted(format!("the shell did not start: {problem:?}"))
}

/// A file without a name.
///
/// # Errors
/// When there is no memory for it.
pub fn memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create(c"script", MemfdFlags::CLOEXEC)?;
    fill(&file, bytes)?;
    Ok(file)
}

/// Writes to the start of a file, whose position is shared with the shell and
/// stays where it is.
///
/// # Errors
/// When there is no memory for it.
pub fn fill(file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        written += pwrite(file, &bytes[written..], written as u64)?;
    }
    Ok(())
}
