//! Standard input on its way from the client to the process.
//!
//! It is bounded: a process that does not read holds the client back. With one
//! exception. Acknowledgements come behind the input on the same stream, so
//! while the process waits for its output to be acknowledged, input is taken
//! beyond the bound, or the two would wait for each other for ever.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use crate::lock::Lock;

/// Bytes held for a process that is slow to read.
const USUAL: usize = 128 << 10;
/// Bytes held while output waits: more than a client has under way.
const STALLED: usize = 8 << 20;

/// The queue between the two.
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
    /// No more comes.
    ended: bool,
    /// Nobody reads any more.
    closed: bool,
}

impl Queue {
    fn takes_more(&self) -> bool {
        self.closed || self.size < if self.stalled { STALLED } else { USUAL }
    }
}

impl Stdin {
    /// Adds input, as soon as there is room. What comes after the end, or for a
    /// process that reads no more, is dropped.
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

    /// No more input comes.
    pub fn end(&self) {
        self.queue.lock().ended = true;
        self.filled.notify_one();
    }

    /// Whether output waits for the client.
    pub fn stall(&self, stalled: bool) {
        self.queue.lock().stalled = stalled;
        self.emptied.notify_one();
    }

    /// Nobody reads any more.
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

    /// Writes the input to `pipe` until it ends, and then closes it. A process
    /// that has closed its end reads no more, which is no error.
    pub async fn feed(&self, mut pipe: pipe::Sender) {
        while let Some(piece) = self.next().await {
            if pipe.write_all(&piece).await.is_err() {
                break;
            }
        }
        self.close();
    }
}
