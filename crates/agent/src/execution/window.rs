//! The part of one output stream that the agent keeps: the bytes that the client has
//! not acknowledged, at most [`WINDOW`]. The output limit of a command is applied here.
//! Offsets count the bytes of the stream from its start, kept or dropped. No I/O, no
//! clock.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hutch_wire::limits::{CHUNK, WINDOW};

/// Capacity above which an empty window frees its memory.
const MAX_IDLE_CAPACITY: usize = 16 << 10;

/// Unacknowledged output.
#[derive(Debug)]
pub struct Window {
    kept: VecDeque<u8>,
    /// Offset of the first byte kept.
    base: u64,
    /// Offset of the next byte to send.
    next: u64,
    /// Offset at which the stream is cut.
    limit: u64,
    cut: bool,
}

impl Window {
    /// Creates an empty window; `limit` 0 means no limit.
    pub fn new(limit: u64) -> Self {
        let limit = if limit == 0 { u64::MAX } else { limit };
        Self {
            kept: VecDeque::new(),
            base: 0,
            next: 0,
            limit,
            cut: false,
        }
    }

    fn end(&self) -> u64 {
        self.base + self.kept.len() as u64
    }

    /// Bytes that it accepts now; 0 if it is full. A truncated stream accepts
    /// everything and drops it.
    pub fn room(&self) -> usize {
        if self.end() >= self.limit {
            usize::MAX
        } else {
            WINDOW.saturating_sub(self.kept.len())
        }
    }

    /// Adds at most [`Self::room`] bytes. Bytes past the limit are dropped and the
    /// stream counts as truncated.
    pub fn push(&mut self, bytes: &[u8]) {
        let left = usize::try_from(self.limit - self.end()).unwrap_or(usize::MAX);
        let taken = &bytes[..bytes.len().min(left)];
        self.cut |= taken.len() < bytes.len();
        self.kept.extend(taken);
    }

    /// Truncates the stream here: kept bytes stay, later bytes are dropped.
    pub fn close(&mut self) {
        self.limit = self.limit.min(self.end());
    }

    /// True if output was dropped.
    pub fn truncated(&self) -> bool {
        self.cut
    }

    /// Bytes in memory.
    pub fn size(&self) -> usize {
        self.kept.len()
    }

    /// The next piece to send, at most one chunk.
    pub fn take(&mut self) -> Option<Bytes> {
        let start = usize::try_from(self.next - self.base).ok()?;
        let count = self.kept.len().checked_sub(start)?.min(CHUNK);
        if count == 0 {
            return None;
        }
        let (head, tail) = self.kept.as_slices();
        let mut piece = BytesMut::with_capacity(count);
        let from_head = head.get(start..).unwrap_or_default();
        piece.extend_from_slice(&from_head[..from_head.len().min(count)]);
        let missing = count - piece.len();
        let from_tail = &tail[start.saturating_sub(head.len())..];
        piece.extend_from_slice(&from_tail[..missing]);
        self.next += count as u64;
        Some(piece.freeze())
    }

    /// Drops the bytes before `offset`; offsets out of range are clamped.
    pub fn acknowledge(&mut self, offset: u64) {
        let offset = offset.clamp(self.base, self.next);
        let count = usize::try_from(offset - self.base).unwrap_or_default();
        self.kept.drain(..count);
        self.base = offset;
        if self.kept.is_empty() && self.kept.capacity() > MAX_IDLE_CAPACITY {
            self.kept = VecDeque::new();
        }
    }

    /// True if a client that has `offset` bytes can continue from here.
    pub fn reaches(&self, offset: u64) -> bool {
        (self.base..=self.end()).contains(&offset)
    }

    /// Sends again from `offset`, which [`Self::reaches`] must allow.
    pub fn resume(&mut self, offset: u64) {
        self.next = offset;
        self.acknowledge(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_sent_again_until_it_is_acknowledged() {
        let mut window = Window::new(0);
        window.push(b"abcdef");
        assert_eq!(window.take().unwrap(), "abcdef");
        assert!(window.take().is_none());
        window.acknowledge(2);
        assert!(!window.reaches(1) && window.reaches(2) && window.reaches(6) && !window.reaches(7));
        window.resume(4);
        assert_eq!(window.take().unwrap(), "ef");
    }

    #[test]
    fn a_full_window_has_no_room_until_acknowledged() {
        let mut window = Window::new(0);
        window.push(&vec![0; WINDOW]);
        assert_eq!(window.room(), 0);
        while window.take().is_some() {}
        window.acknowledge(u64::MAX);
        assert_eq!((window.room(), window.size()), (WINDOW, 0));
    }

    #[test]
    fn past_the_limit_everything_is_taken_and_dropped() {
        let mut window = Window::new(3);
        window.push(b"abc");
        assert!(!window.truncated());
        assert_eq!(window.room(), usize::MAX);
        window.push(b"d");
        assert!(window.truncated());
        assert_eq!(window.take().unwrap(), "abc");
    }

    #[test]
    fn a_piece_that_wraps_around_in_memory_is_whole() {
        let mut window = Window::new(0);
        for round in 0..50_u8 {
            window.push(&[round; 1000]);
            let piece = window.take().unwrap();
            assert_eq!(piece, vec![round; 1000]);
            window.acknowledge((u64::from(round) + 1) * 1000 - 300);
        }
    }
}
