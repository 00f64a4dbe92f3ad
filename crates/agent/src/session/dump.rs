//! Where a shell leaves its value, and its word that it has.
//!
//! bash has a file without a name for it, which costs its volume nothing, and
//! says on its line that the value is there, before it goes. Other shells know
//! no numbers past 9, which belong to their commands, and write to a file in
//! the session's folder, as bash does where its command has closed the other.
//! A command may write to all of these what it likes: it is its own session's,
//! it is bounded, and a word without a whole value counts for nothing.

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

/// Largest dump: some of it is not kept. It lies in memory, and may not grow as
/// the command likes.
pub const MOST: usize = 2 * MAX_SESSION_VALUE;
/// Longest word.
const WORD: usize = 64;
/// What the word begins and ends with, around the exit code.
const WORD_IS: (&[u8], &[u8]) = (b"declare -- __hutch_c=\"", b"\"\n");
/// Exit codes past this may be a signal's: only the process's end can tell.
const HIGHEST: i32 = 128;

/// What a shell leaves its value in.
#[derive(Debug)]
pub struct Dump {
    /// The file without a name, where the shell has one.
    pub memory: Option<OwnedFd>,
    /// The file in the session's folder.
    out: PathBuf,
    /// Stands between the parts. It is not for anybody to guess, as it must not
    /// be met in a value.
    mark: String,
    taken: Lock<Option<Value>>,
}

impl Dump {
    /// For the shell of that number.
    pub fn new(folder: &Path, number: u64, mark: &str) -> Self {
        Self {
            memory: None,
            out: folder.join(format!("out-{number}")),
            mark: format!("{mark}-{number}"),
            taken: Lock::new(None),
        }
    }

    /// What the shell does when it exits; one that is `copied` has a builtin for
    /// it.
    pub fn text(&self, kind: Kind, copied: bool, environment: &Environment) -> Vec<u8> {
        let names = environment.without(&WITHHELD);
        // A list may not be empty in every shell; this name is always set.
        let names = format!("_ {}", names.names().join(" "));
        let out = self.out.as_os_str().as_bytes();
        text::dump(kind, copied, out, &self.mark, names.trim())
    }

    /// Whether a whole value is there; it is taken then.
    fn whole(&self, before: &Before) -> bool {
        let value = self.read().ok();
        let value = value.and_then(|bytes| text::parse(&bytes, &self.mark, before));
        let whole = value.is_some();
        *self.taken.lock() = value;
        whole
    }

    /// The value that the shell has left; none where it has left none.
    pub fn take(&self, before: &Before) -> Option<Value> {
        if self.taken.lock().is_none() {
            self.whole(before);
        }
        // What has left the shell may hold the file for ever.
        let _ = self.memory.as_ref().map(|memory| ftruncate(memory, 0));
        self.taken.lock().take()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let size = match &self.memory {
            // Its size is its bound; how far the shell has come tells more.
            Some(memory) => usize::try_from(tell(memory)?).unwrap_or(MOST).min(MOST),
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

/// The exit code of a command whose shell has said that it goes, and has left a
/// whole value; else pending for ever. What is no word closes the line: nobody
/// can fill it and so hold up the shell, which does not mind.
pub async fn word(line: Line, dump: Arc<Dump>, before: Arc<Before>) -> i32 {
    if let Ok(line) = UnixStream::from_std(line)
        && let Some(code) = read_word(&line).await
        && code <= HIGHEST
        && dump.whole(&before)
    {
        return code;
    }
    std::future::pending().await
}

async fn read_word(line: &UnixStream) -> Option<i32> {
    let mut word = Vec::with_capacity(WORD);
    while !word.ends_with(b"\n") {
        line.readable().await.ok()?;
        match line.try_read_buf(&mut word) {
            Ok(0) => return None,
            Ok(_) if word.len() >= WORD => return None,
            Err(problem) if problem.kind() != io::ErrorKind::WouldBlock => return None,
            _ => {}
        }
    }
    let (head, tail) = WORD_IS;
    let code = word.strip_prefix(head)?.strip_suffix(tail)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}
