//! A shell that waits for its script: started ahead, with its pipes, and told
//! on a line of its own to go. Who keeps such shells, how many, and what they
//! do before and after their script is not known here.
//!
//! The shell has one end of the line, reads words from it, and goes away by
//! itself when it ends. It has files without names, too, to be filled before
//! the word, or by itself. What it says on its line is for those who expect it.

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
    /// The number that it has the line under.
    pub line: i32,
    /// The numbers of its files.
    pub files: &'a [i32],
}

/// A shell that waits. Dropped, it goes away by itself.
#[derive(Debug)]
pub struct Held {
    /// Its process and pipes.
    pub started: Started,
    /// The agent's end of its line.
    pub line: UnixStream,
    /// Its files, in the order of their numbers.
    pub files: Vec<OwnedFd>,
    /// Whether it is a copy, which has builtins of ours.
    pub copied: bool,
}

/// A shell's own ends of its output, and its other files under their numbers.
struct Ends<'a> {
    output: (BorrowedFd<'a>, BorrowedFd<'a>),
    inherited: &'a [(BorrowedFd<'a>, i32)],
}

impl Held {
    /// Starts one.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, where the sandbox cannot have another process.
    pub fn start(hold: &Hold<'_>, reaper: &Reaper) -> Result<Self, Status> {
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

    /// Has a fork server make one that waits as the server's script says.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, where the sandbox cannot have another process, or the
    /// server is gone.
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

    /// Makes the pipes and files of one that `start` starts.
    fn with(
        line: i32,
        numbers: &[i32],
        reaper: &Reaper,
        start: impl FnOnce(&Ends<'_>) -> Result<Pid, Status>,
    ) -> Result<Self, Status> {
        // It would start without them, and lose its script.
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

    /// Whether it still waits. One that is just being killed counts as waiting;
    /// then its script ends by that signal before it has begun.
    pub fn lives(&mut self) -> bool {
        let told = self.started.ended.try_recv();
        told == Err(TryRecvError::Empty) && reaper::runs(self.started.main)
    }

    /// Fills the file of that place, from its start.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn fill(&self, place: usize, bytes: &[u8]) -> io::Result<()> {
        let file = self.files.get(place).ok_or(io::ErrorKind::NotFound)?;
        let mut written = 0;
        while written < bytes.len() {
            // The file's position is shared with the shell and stays at its start.
            written += pwrite(file, &bytes[written..], written as u64)?;
        }
        Ok(())
    }

    /// Bounds the file of that place, which the shell writes to.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn bound(&self, place: usize, size: u64) -> io::Result<()> {
        let file = self.files.get(place).ok_or(io::ErrorKind::NotFound)?;
        ftruncate(file, size)?;
        Ok(fcntl_add_seals(file, SealFlags::GROW)?)
    }

    /// Says a word, which ends with a newline.
    ///
    /// # Errors
    /// When it is gone.
    pub fn say(&self, word: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.line, word)?;
        Ok(())
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
fn memory() -> io::Result<OwnedFd> {
    Ok(memfd_create(
        c"script",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?)
}
