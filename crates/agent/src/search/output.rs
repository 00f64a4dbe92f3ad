//! The output of a search: applies its limit and splits it into messages.

use hutch_wire::limits::CHUNK;
use hutch_wire::v1::search_output::Output;
use hutch_wire::v1::{SearchEnd, SearchOutput};

/// Both output streams of a search.
#[derive(Debug)]
pub struct Printed {
    stdout: Bounded,
    stderr: Bounded,
    /// True if output was dropped.
    pub truncated: bool,
}

#[derive(Debug)]
struct Bounded {
    held: Vec<u8>,
    left: u64,
    begun: bool,
    full: bool,
}

impl Bounded {
    const fn new(limit: u64) -> Self {
        Self {
            held: Vec::new(),
            left: if limit == 0 { u64::MAX } else { limit },
            begun: false,
            full: false,
        }
    }

    /// Adds a whole line or nothing. Only the first line may be cut.
    fn add(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.full || length as u64 > self.left && self.begun {
            self.full = true;
            return;
        }
        self.begun = true;
        for piece in pieces {
            let room = usize::try_from(self.left).unwrap_or(usize::MAX);
            let fits = room.min(piece.len());
            self.held.extend_from_slice(&piece[..fits]);
            self.left -= fits as u64;
            self.full |= fits < piece.len();
        }
    }

    fn take(&mut self, messages: &mut Vec<SearchOutput>, kind: fn(bytes::Bytes) -> Output) {
        let held = bytes::Bytes::from(std::mem::take(&mut self.held));
        for start in (0..held.len()).step_by(CHUNK) {
            let piece = held.slice(start..held.len().min(start + CHUNK));
            messages.push(message(kind(piece)));
        }
    }
}

const fn message(output: Output) -> SearchOutput {
    SearchOutput {
        output: Some(output),
    }
}

impl Printed {
    /// At most `limit` bytes for each stream; 0 means no limit.
    pub const fn new(limit: u64) -> Self {
        Self {
            stdout: Bounded::new(limit),
            stderr: Bounded::new(limit),
            truncated: false,
        }
    }

    /// Appends a line to stdout, given in pieces.
    pub fn stdout(&mut self, pieces: &[&[u8]]) {
        self.stdout.add(pieces);
        self.truncated |= self.stdout.full;
    }

    /// Appends a line to stderr.
    pub fn stderr(&mut self, line: &[u8]) {
        self.stderr.add(&[line]);
        self.truncated |= self.stderr.full;
    }

    /// True if stdout can take no more.
    pub const fn is_full(&self) -> bool {
        self.stdout.full
    }

    /// Bytes that wait to be sent.
    pub fn held(&self) -> usize {
        self.stdout.held.len() + self.stderr.held.len()
    }

    /// Takes the waiting output as messages.
    pub fn take(&mut self) -> Vec<SearchOutput> {
        let mut messages = Vec::new();
        self.stdout.take(&mut messages, Output::Stdout);
        self.stderr.take(&mut messages, Output::Stderr);
        messages
    }

    /// The last message.
    pub const fn end(&self, exit_code: i32) -> SearchOutput {
        message(Output::End(SearchEnd {
            exit_code,
            truncated: self.truncated,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_fit_are_left_out_whole_but_for_a_first() {
        let mut printed = Printed::new(10);
        printed.stdout(&[b"123", b"45\n"]);
        assert!(!printed.truncated);
        printed.stdout(&[b"6789\n"]);
        printed.stdout(&[b"\n"]);
        assert!(printed.truncated && printed.is_full());
        assert_eq!(printed.take(), [message(Output::Stdout("12345\n".into()))]);
        let mut printed = Printed::new(2);
        printed.stdout(&[b"1", b"23"]);
        assert!(printed.truncated);
        assert_eq!(printed.take(), [message(Output::Stdout("12".into()))]);
    }

    #[test]
    fn messages_have_at_most_a_chunk() {
        let mut printed = Printed::new(0);
        printed.stdout(&[&vec![b'x'; 2 * CHUNK + 1]]);
        assert_eq!(printed.take().len(), 3);
        assert!(printed.take().is_empty());
    }
}
