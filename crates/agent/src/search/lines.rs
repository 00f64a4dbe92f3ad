//! Finds the matching lines of one file, as GNU grep does.
//!
//! A file is binary from the piece with its first NUL on, and its NULs end lines. For a
//! binary file, or lines that are not UTF-8, only the fact of a match is reported. At
//! most one line of `MAX_LINE` bytes and one piece are in memory.

use std::os::fd::OwnedFd;

use hutch_wire::limits::MAX_LINE;
use memchr::{memchr, memrchr};
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};
use rustix::io::Errno;

use crate::files::read::fill;

/// Bytes of one read.
const READ_BYTES: usize = 96 << 10;

/// A regular expression and its search cache.
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

/// A file that is being searched.
#[derive(Debug)]
pub struct Lines {
    file: OwnedFd,
    buffer: Vec<u8>,
    /// Bytes of an incomplete line at the start of the buffer.
    held: usize,
    binary: bool,
    /// True if something matched that cannot be shown.
    pub hidden: bool,
    /// True if a line was too long for one piece.
    pub cut: bool,
}

impl Lines {
    /// Searches a file; `buffer` may come from an earlier one.
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

    /// Returns the buffer for the next file.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Reads a piece and passes its matching lines, with line ends, to `found` until
    /// that returns false. Returns true if the file is done.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn step(
        &mut self,
        matcher: &mut Matcher,
        found: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Errno> {
        let begin = self.held;
        // One more byte for a missing line end at the end of the file.
        if self.buffer.len() <= begin + READ_BYTES {
            self.buffer.resize(begin + READ_BYTES + 1, 0);
        }
        let count = fill(&self.file, &mut self.buffer[begin..begin + READ_BYTES])?;
        let mut end = begin + count;
        let last = count < READ_BYTES;
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

    /// Returns true if the rest of this file need not be searched.
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
            // The engine sees an empty line after the last one; ignore it.
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
