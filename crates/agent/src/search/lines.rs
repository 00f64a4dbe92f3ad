//! The lines of one file that match, as GNU grep finds them.
//!
//! A file with a NUL is binary from the piece on that has the first one, and
//! its NULs end lines; that it matches is all that is said of it. So is it of
//! lines that are not UTF-8. No more than one line of `MAX_LINE` bytes and a
//! piece are in memory.

use std::os::fd::OwnedFd;

use hutch_wire::limits::MAX_LINE;
use memchr::{memchr, memrchr};
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};
use rustix::io::Errno;

use crate::files::read::fill;

/// How much is read at once.
const PIECE: usize = 96 << 10;

/// An expression, and the memory that searches with it need.
#[derive(Debug)]
pub struct Matcher {
    regex: Regex,
    cache: Cache,
}

impl From<Regex> for Matcher {
    fn from(regex: Regex) -> Self {
        let cache = regex.create_cache();
        Self { regex, cache }
    }
}

/// A file that is searched.
#[derive(Debug)]
pub struct Lines {
    file: OwnedFd,
    buffer: Vec<u8>,
    /// Bytes of a line that is not at its end yet.
    held: usize,
    binary: bool,
    /// Something matches that cannot be shown.
    pub hidden: bool,
    /// A line was too long for one piece.
    pub cut: bool,
}

impl Lines {
    /// Of a file; `buffer` may be that of an earlier one.
    pub const fn new(file: OwnedFd, buffer: Vec<u8>) -> Self {
        Self {
            file,
            buffer,
            held: 0,
            binary: false,
            hidden: false,
            cut: false,
        }
    }

    /// The buffer, for the next file.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Reads a piece and gives its matching lines to `found`, with their ends,
    /// until that says no. Returns whether the file has been dealt with.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn step(
        &mut self,
        matcher: &mut Matcher,
        found: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Errno> {
        let begin = self.held;
        // One more for a line's end that the file does not have.
        if self.buffer.len() <= begin + PIECE {
            self.buffer.resize(begin + PIECE + 1, 0);
        }
        let count = fill(&self.file, &mut self.buffer[begin..begin + PIECE])?;
        let mut end = begin + count;
        let last = count < PIECE;
        self.split_at_nuls(begin, end);
        let whole = memrchr(b'\n', &self.buffer[begin..end]).map_or(0, |at| begin + at + 1);
        let too_long = whole == 0 && end >= MAX_LINE;
        if whole < end && (last || too_long) {
            self.cut |= !last;
            self.buffer[end] = b'\n';
            end += 1;
        } else if whole < end {
            let done = self.search(whole, matcher, found);
            self.buffer.copy_within(whole..end, 0);
            self.held = end - whole;
            return Ok(done);
        }
        self.held = 0;
        Ok(self.search(end, matcher, found) || last)
    }

    fn split_at_nuls(&mut self, begin: usize, end: usize) {
        let new = &mut self.buffer[begin..end];
        let mut at = 0;
        while let Some(nul) = memchr(0, &new[at..]) {
            self.binary = true;
            at += nul;
            new[at] = b'\n';
        }
    }

    /// Whether nothing more is wanted of this file.
    fn search(
        &mut self,
        end: usize,
        matcher: &mut Matcher,
        mut found: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let lines = &self.buffer[..end];
        let mut at = 0;
        while at < end {
            let input = Input::new(lines).range(at..).earliest(true);
            let half = matcher.regex.search_half_with(&mut matcher.cache, &input);
            // Behind the last line there is another only for the engine.
            let Some(hit) = half.map(|half| half.offset()).filter(|hit| *hit < end) else {
                return false;
            };
            if self.binary {
                self.hidden = true;
                return true;
            }
            let from = memrchr(b'\n', &lines[at..hit]).map_or(at, |before| at + before + 1);
            at = memchr(b'\n', &lines[hit..]).map_or(end, |after| hit + after + 1);
            let line = &lines[from..at];
            if std::str::from_utf8(line).is_err() {
                self.hidden = true;
            } else if !found(line) {
                return true;
            }
        }
        false
    }
}
