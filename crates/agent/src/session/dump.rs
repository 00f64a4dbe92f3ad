//! Where a shell dumps its value, and how it reports that.
//!
//! bash writes to an anonymous file, which costs no volume I/O, and reports the dump on
//! its control socket before it exits. Other shells know no descriptors above 9, and
//! the lower ones belong to their commands; they write to a file in the session's
//! directory. bash does so, too, if its command has closed the anonymous file. A
//! command may write anything to all of these: they belong to its own session, their
//! size is bounded, and a report without a complete value is ignored.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as Line;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hutch_wire::limits::MAX_SESSION_VALUE;
use rustix::fs::{ftruncate, tell};
use rustix::io::pread;
use tokio::net::UnixStream;

use super::store;
use super::text::{self, Before};
use super::value::{Kind, Value};
use crate::execution::WITHHELD;
use crate::lock::Lock;
use crate::process::Environment;

/// Largest dump; a part of it is not kept. It is in memory, so a command must not be
/// able to grow it freely.
pub const MAX_DUMP_BYTES: usize = 2 * MAX_SESSION_VALUE;
/// Longest report.
const MAX_WORD_BYTES: usize = 64;
/// The start and the end of the report, around the exit code.
const WORD_IS: (&[u8], &[u8]) = (b"declare -- __hutch_c=\"", b"\"\n");
/// A higher exit code may come from a signal; only the process's end can tell.
const MAX_OWN_EXIT_CODE: i32 = 128;

/// The files for one shell's dump.
#[derive(Debug)]
pub struct Dump {
    /// The anonymous file, if the shell has one.
    pub memory: Option<OwnedFd>,
    /// The file in the session's directory.
    out: PathBuf,
    /// Separates the parts. It is random, because it must not occur in a value.
    mark: String,
    taken: Lock<Option<Value>>,
}

impl Dump {
    /// Creates the dump of shell `number`.
    pub fn new(directory: &Path, number: u64, mark: &str) -> Self {
        Self {
            memory: None,
            out: directory.join(format!("out-{number}")),
            mark: format!("{mark}-{number}"),
            taken: Lock::new(None),
        }
    }

    /// The script that the shell runs when it exits. A `copied` shell has a builtin for
    /// it.
    pub fn text(&self, kind: Kind, copied: bool, environment: &Environment) -> Vec<u8> {
        let names = environment.without(&WITHHELD);
        // Not every shell allows an empty list; the name `_` is always set.
        let names = format!("_ {}", names.names().join(" "));
        let out = self.out.as_os_str().as_bytes();
        text::dump(kind, copied, out, &self.mark, names.trim())
    }

    /// Reads and stores the value; returns true if it is complete.
    fn whole(&self, before: &Before) -> bool {
        let value = self.read().ok();
        let value = value.and_then(|bytes| text::parse(&bytes, &self.mark, before));
        let whole = value.is_some();
        *self.taken.lock() = value;
        whole
    }

    /// Returns the value that the shell has dumped; `None` if there is none.
    pub fn take(&self, before: &Before) -> Option<Value> {
        if self.taken.lock().is_none() {
            self.whole(before);
        }
        // Background processes of the shell may hold the file open for ever: free its
        // memory.
        let _ = self.memory.as_ref().map(|memory| ftruncate(memory, 0));
        self.taken.lock().take()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let size = match &self.memory {
            // The file's size is its limit; the shell's file position is the length of
            // the dump.
            Some(memory) => usize::try_from(tell(memory)?)
                .unwrap_or(MAX_DUMP_BYTES)
                .min(MAX_DUMP_BYTES),
            None => 0,
        };
        let Some(memory) = self.memory.as_ref().filter(|_| size > 0) else {
            let bytes = store::read(&self.out);
            let _ = fs::remove_file(&self.out);
            return bytes;
        };
        let mut bytes = vec![0; size];
        let mut done = 0;
        while done < size {
            let count = pread(memory, &mut bytes[done..], done as u64)?;
            if count == 0 {
                break;
            }
            done += count;
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}

/// Resolves with the exit code once the shell has reported its end and dumped a
/// complete value; else pending for ever. An invalid report closes the control socket,
/// so a command cannot fill it and block the shell. The shell tolerates that.
pub async fn word(line: Line, dump: Arc<Dump>, before: Arc<Before>) -> i32 {
    if let Ok(line) = UnixStream::from_std(line)
        && let Some(code) = read_word(&line).await
        && code <= MAX_OWN_EXIT_CODE
        && dump.whole(&before)
    {
        return code;
    }
    std::future::pending().await
}

async fn read_word(line: &UnixStream) -> Option<i32> {
    let mut word = Vec::with_capacity(MAX_WORD_BYTES);
    while !word.ends_with(b"\n") {
        line.readable().await.ok()?;
        match line.try_read_buf(&mut word) {
            Ok(0) => return None,
            Ok(_) if word.len() >= MAX_WORD_BYTES => return None,
            Err(problem) if problem.kind() != io::ErrorKind::WouldBlock => return None,
            _ => {}
        }
    }
    let (head, tail) = WORD_IS;
    let code = word.strip_prefix(head)?.strip_suffix(tail)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}
