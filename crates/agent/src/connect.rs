//! `hutch-agent connect`: copies bytes between stdin/stdout and the agent's socket.
//!
//! Each open channel of a facade needs one such process in the sandbox, so it has two
//! plain threads, two buffers and no async runtime. It does not interpret the protocol.
//! It writes each read from the socket to stdout in one call: stdout becomes WebSocket
//! frames, and fewer, larger frames are better.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::attach::{self, StartupErrors};
use crate::socket;

const BUFFER_BYTES: usize = 64 << 10;
const STACK_BYTES: usize = 32 << 10;
/// Longest wait for the agent's socket. The agent binds it milliseconds after the
/// container starts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Connects to the sandbox's agent and copies until the socket or stdout ends. The end
/// of stdin is passed on.
///
/// # Errors
/// If no agent listens, or a read or write fails.
pub fn connect() -> io::Result<()> {
    protect_memory()?;
    join(dial()?, None)
}

/// The same for this container's agent, which is started if none answers.
///
/// # Errors
/// As for [`connect`], or if no agent can be started.
pub fn connect_or_start() -> io::Result<()> {
    protect_memory()?;
    let (socket, errors) = attach::dial_or_start()?;
    join(socket, errors)
}

fn protect_memory() -> io::Result<()> {
    // The memory holds data that other users of the sandbox must not read.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn join(socket: UnixStream, errors: Option<StartupErrors>) -> io::Result<()> {
    let sending = socket.try_clone()?;
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _ = pump(rustix::stdio::stdin(), sending.as_fd());
            let _ = sending.shutdown(Shutdown::Write);
        })?;
    let received = pump(socket.as_fd(), rustix::stdio::stdout())?;
    match errors {
        // The agent ended before it served any byte: report its error output.
        Some(errors) if received == 0 => Err(io::Error::other(errors.read())),
        _ => Ok(()),
    }
}

fn dial() -> io::Result<UnixStream> {
    let address = socket::of_a_sandbox()?;
    let start = Instant::now();
    loop {
        match UnixStream::connect_addr(&address) {
            Ok(socket) => return Ok(socket),
            Err(problem) if start.elapsed() > CONNECT_TIMEOUT => {
                let text = format!("the agent does not answer on its socket: {problem}");
                return Err(io::Error::new(problem.kind(), text));
            }
            Err(_) => thread::sleep(RETRY_INTERVAL),
        }
    }
}

/// Copies until the end and returns the number of bytes.
fn pump(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut all = 0;
    loop {
        match rustix::io::read(from, &mut buffer[..]) {
            Ok(0) => return Ok(all),
            Ok(count) => {
                write_all(to, &buffer[..count])?;
                all += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}
