//! An idle shell: started ahead, with its pipes, waiting for a word on its control
//! socket. This module does not know the pool, or what shells do before and after their
//! script.
//!
//! The shell holds one end of the control socket, reads words from it and exits when it
//! closes. It also has anonymous files, which the agent fills before the word or which
//! the shell fills itself. Callers interpret what the shell writes to the control
//! socket.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::pwrite;
use rustix::process::{Resource, getrlimit};
use tokio::net::unix::pipe::Sender;
use tokio::sync::oneshot::error::TryRecvError;
use tonic::Status;

use super::fork_server::ForkServer;
use super::start::{Started, exhausted, output_pipe, pipe};
use crate::process::{Environment, Launch, NotLaunched, Pid, Reaper, launch, reaper};

/// How to start an idle shell.
#[derive(Debug)]
pub struct IdleShellSpec<'a> {
    /// The shell's binary.
    pub file: &'a CStr,
    /// Its arguments; they make it wait.
    pub arguments: &'a [CString],
    /// Its environment.
    pub environment: &'a Environment,
    /// Its standard input, unless the client feeds it.
    pub nothing: BorrowedFd<'a>,
    /// True if the client feeds its standard input.
    pub fed: bool,
    /// The descriptor number of the control socket in the shell.
    pub line: i32,
    /// The descriptor numbers of its files.
    pub files: &'a [i32],
}

/// A waiting shell. It exits by itself when this is dropped.
#[derive(Debug)]
pub struct IdleShell {
    /// Its process and pipes.
    pub started: Started,
    /// The agent's end of the control socket.
    pub line: UnixStream,
    /// Its files, in the order of their numbers.
    pub files: Vec<OwnedFd>,
    /// True if it is a copy of the fork server; copies have the agent's builtins.
    pub copied: bool,
}

/// The child's ends of its output pipes, and its other files with their numbers.
struct Ends<'a> {
    output: (BorrowedFd<'a>, BorrowedFd<'a>),
    inherited: &'a [(BorrowedFd<'a>, i32)],
}

impl IdleShell {
    /// Starts a shell.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if the sandbox cannot have another process.
    pub fn start(hold: &IdleShellSpec<'_>, reaper: &Reaper) -> Result<Self, Status> {
        let (stdin_child, stdin) = input(hold.fed)?;
        let mut held = Self::with(hold.line, hold.files, reaper, |ends| {
            launch(&Launch {
                arguments: hold.arguments,
                file: Some(hold.file),
                environment: hold.environment,
                stdin: stdin_child.as_ref().map_or(hold.nothing, AsFd::as_fd),
                output: Some(ends.output),
                inherited: ends.inherited,
            })
            .map_err(not_started)
        })?;
        held.started.stdin = stdin;
        Ok(held)
    }

    /// Makes a copy with the fork server. It waits as the server's script says.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if the sandbox cannot have another process, or the server is
    /// gone.
    pub fn copy(
        server: &ForkServer,
        line: i32,
        files: &[i32],
        reaper: &Reaper,
    ) -> Result<Self, Status> {
        let mut held = Self::with(line, files, reaper, |ends| {
            let (stdout, stderr) = ends.output;
            let all = [&[(stdout, 1), (stderr, 2)], ends.inherited].concat();
            server.fork(&all).map_err(exhausted)
        })?;
        held.copied = true;
        Ok(held)
    }

    /// Creates the pipes and files for a shell that `start` starts.
    fn with(
        line: i32,
        numbers: &[i32],
        reaper: &Reaper,
        start: impl FnOnce(&Ends<'_>) -> Result<Pid, Status>,
    ) -> Result<Self, Status> {
        // Above the limit the shell would start without these files and lose its
        // script.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let highest = numbers.iter().chain([&line]).max();
        if highest.is_some_and(|highest| u64::from(highest.unsigned_abs()) >= limit) {
            return Err(exhausted(rustix::io::Errno::MFILE.into()));
        }
        let (stdout, stdout_child) = output_pipe()?;
        let (stderr, stderr_child) = output_pipe()?;
        let (ours, line_child) = UnixStream::pair().map_err(exhausted)?;
        ours.set_nonblocking(true).map_err(exhausted)?;
        let files = numbers.iter().map(|_| memory());
        let files: Vec<OwnedFd> = files.collect::<Result<_, _>>().map_err(exhausted)?;
        let mut inherited = vec![(line_child.as_fd(), line)];
        inherited.extend(files.iter().map(AsFd::as_fd).zip(numbers.iter().copied()));
        let main = start(&Ends {
            output: (stdout_child.as_fd(), stderr_child.as_fd()),
            inherited: &inherited,
        })?;
        let started = Started {
            main,
            ended: reaper.watch(main),
            stdout,
            stderr,
            stdin: None,
        };
        Ok(Self {
            started,
            line: ours,
            files,
            copied: false,
        })
    }

    /// True while it waits. A shell that is just being killed still counts; its script
    /// then ends by that signal before it begins.
    pub fn lives(&mut self) -> bool {
        let told = self.started.ended.try_recv();
        told == Err(TryRecvError::Empty) && reaper::runs(self.started.main)
    }

    /// Writes the file at index `place`, from its start.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn fill(&self, place: usize, bytes: &[u8]) -> io::Result<()> {
        let file = self.files.get(place).ok_or(io::ErrorKind::NotFound)?;
        let mut written = 0;
        while written < bytes.len() {
            // pwrite: the shell shares the file position, which must stay at the start.
            written += pwrite(file, &bytes[written..], written as u64)?;
        }
        Ok(())
    }

    /// Limits the size of the file at index `place`, which the shell writes to.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn bound(&self, place: usize, size: u64) -> io::Result<()> {
        let file = self.files.get(place).ok_or(io::ErrorKind::NotFound)?;
        ftruncate(file, size)?;
        Ok(fcntl_add_seals(file, SealFlags::GROW)?)
    }

    /// Sends a word, which ends with a newline.
    ///
    /// # Errors
    /// If the shell is gone.
    pub fn say(&self, word: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.line, word)?;
        Ok(())
    }
}

/// Creates the pipe for standard input, if it is fed: the child's end and the agent's
/// end.
///
/// # Errors
/// RESOURCE_EXHAUSTED if no descriptors are left.
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

/// Creates an anonymous file.
fn memory() -> io::Result<OwnedFd> {
    Ok(memfd_create(
        c"script",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?)
}
