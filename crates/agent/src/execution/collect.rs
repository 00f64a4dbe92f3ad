//! Reads one output pipe of a process into its window, or discards the output.
//!
//! It never waits for end-of-file: a background process may hold the pipe open for
//! ever. When the main process has ended, only the bytes that are in the pipe at that
//! moment are read. After that the pipe is drained while any process can write to it;
//! otherwise a background server would die of SIGPIPE.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use hutch_wire::limits::CHUNK;
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout_at;

use super::{Execution, Intake, Source};

/// Pause after a full read of discarded output, so that a background process that
/// floods the pipe does not use up the sandbox's CPU.
const DRAIN_PAUSE: Duration = Duration::from_millis(5);

thread_local! {
    /// Shared read buffer: one buffer per pipe would cost 64 KiB each.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Reads until the pipe ends, or until the process has ended and its last output is
/// read.
pub async fn collect(execution: &Execution, source: Source, pipe: &Receiver) {
    let woken = &execution.collectors[source as usize];
    let mut left: Option<u64> = None;
    loop {
        if left.is_none() && execution.process_has_ended() {
            left = Some(rustix::io::ioctl_fionread(pipe).unwrap_or_default());
        }
        if left == Some(0) {
            return;
        }
        let most = match execution.intake(source) {
            Intake::Read(room) => {
                room.min(usize::try_from(left.unwrap_or(u64::MAX)).unwrap_or(room))
            }
            Intake::Wait(None) => {
                woken.notified().await;
                continue;
            }
            Intake::Wait(Some(moment)) => {
                let _ = timeout_at(moment, woken.notified()).await;
                continue;
            }
        };
        match read(pipe, most, |bytes| execution.add_output(source, bytes)) {
            Ok(0) => return,
            Ok(count) => {
                left = left.map(|left| left.saturating_sub(count as u64));
                tokio::task::yield_now().await;
            }
            Err(Errno::AGAIN) if left.is_some() => return,
            Err(Errno::AGAIN) => {
                tokio::select! {
                    _ = readable(pipe) => {}
                    () = woken.notified() => {}
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Reads and discards until no process holds the other end.
pub async fn drain(pipe: Receiver) {
    loop {
        match read(&pipe, CHUNK, |_| ()) {
            Ok(0) => return,
            Ok(CHUNK) => tokio::time::sleep(DRAIN_PAUSE).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(Errno::AGAIN) => readable(&pipe).await,
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Reads without tokio's readiness state, which lags behind the kernel: bytes that are
/// in the pipe when the process ends must be found now.
fn read(pipe: &Receiver, most: usize, take: impl FnOnce(&[u8])) -> Result<usize, Errno> {
    SCRATCH.with_borrow_mut(|buffer| {
        let most = most.min(buffer.len());
        let count = rustix::io::read(pipe, &mut buffer[..most])?;
        take(&buffer[..count]);
        Ok(count)
    })
}

/// Waits for more data after a read found none.
async fn readable(pipe: &Receiver) {
    let _ = pipe.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    let _ = pipe.readable().await;
}
