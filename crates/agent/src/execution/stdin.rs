//! The queue of standard input between the client and the process.
//!
//! It is bounded, so a process that does not read holds the client back. There is one
//! exception. Acknowledgements follow the input on the same stream. While the process
//! waits for its output to be acknowledged, input is accepted beyond the bound;
//! otherwise both sides would wait for each other for ever.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use crate::lock::Lock;

/// Bytes queued for a process that reads slowly.
const QUEUE_BYTES: usize = 128 << 10;
/// Bytes queued while output waits for acknowledgement: more than a client has in
/// flight.
const STALLED_QUEUE_BYTES: usize = 8 << 20;

/// The queue.
#[derive(Debug, Default)]
pub struct Stdin {
    queue: Lock<Queue>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    size: usize,
    stalled: bool,
    /// True after the client's end of input.
    ended: bool,
    /// True when the process no longer reads.
    closed: bool,
}

impl Queue {
    fn takes_more(&self) -> bool {
        self.closed
            || self.size
                < if self.stalled {
                    STALLED_QUEUE_BYTES
                } else {
                    QUEUE_BYTES
                }
    }
}

impl Stdin {
    /// Appends input when there is room. Input after the end, or for a process that no
    /// longer reads, is dropped.
    pub async fn push(&self, piece: Bytes) {
        while !self.queue.lock().takes_more() {
            self.emptied.notified().await;
        }
        let mut queue = self.queue.lock();
        if !queue.ended && !queue.closed && !piece.is_empty() {
            queue.size += piece.len();
            queue.pieces.push_back(piece);
            self.filled.notify_one();
        }
    }

    /// Marks the end of input.
    pub fn end(&self) {
        self.queue.lock().ended = true;
        self.filled.notify_one();
    }

    /// Sets whether output waits for the client.
    pub fn stall(&self, stalled: bool) {
        self.queue.lock().stalled = stalled;
        self.emptied.notify_one();
    }

    /// Drops the queue: the process no longer reads.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.pieces.clear();
        self.emptied.notify_one();
    }

    async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut queue = self.queue.lock();
                if let Some(piece) = queue.pieces.pop_front() {
                    queue.size -= piece.len();
                    self.emptied.notify_one();
                    return Some(piece);
                }
                if queue.ended || queue.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Writes the input to `pipe` until it ends, then closes the pipe. A process that
    /// has closed its end is no error.
    pub async fn feed(&self, mut pipe: pipe::Sender) {
        while let Some(piece) = self.next().await {
            if pipe.write_all(&piece).await.is_err() {
                break;
            }
        }
        self.close();
    }
}
