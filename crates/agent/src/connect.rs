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

use crate::{attach, socket};

const BUFFER: usize = 64 << 10;
const STACK: usize = 32 << 10;
/// Longest wait for the agent's socket. The agent binds it milliseconds after the
/// container starts.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Connects to the sandbox's agent and copies until the socket or stdout ends. The end
/// of stdin is passed on.
///
/// # Errors
/// If no agent listens, or a read or write fails.
pub fn connect(start: bool) -> io::Result<()> {
    // The memory holds data that other users of the sandbox must not read.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let (socket, words) = match start {
        true => attach::dial_or_start()?,
        false => (dial()?, None),
    };
    let sending = socket.try_clone()?;
    thread::Builder::new().stack_size(STACK).spawn(move || {
        let _ = pump(rustix::stdio::stdin(), sending.as_fd());
        let _ = sending.shutdown(Shutdown::Write);
    })?;
    let received = pump(socket.as_fd(), rustix::stdio::stdout())?;
    match words {
        // The agent ended before it served any byte: report its error output.
        Some(words) if received == 0 => Err(io::Error::other(words.all())),
        _ => Ok(()),
    }
}

fn dial() -> io::Result<UnixStream> {
    let address = socket::of_a_sandbox()?;
    let start = Instant::now();
    loop {
        match UnixStream::connect_addr(&address) {
            Ok(socket) => return Ok(socket),
            Err(problem) if start.elapsed() > PATIENCE => {
                let text = format!("the agent does not answer on its socket: {problem}");
                return Err(io::Error::new(problem.kind(), text));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Copies until the end and returns the number of bytes.
fn pump(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
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
