//! A directory tree with the contents of its text files, one step at a time. It only
//! reads directories and regular files.

use bytes::Bytes;
use hutch_wire::limits::{CHUNK, MAX_CONTENT};
use hutch_wire::v1::tree_output::Output;
use hutch_wire::v1::{Kind, TreeEnd, TreeEntry, TreeOutput, TreeRequest};
use rustix::fs::{FileType, fstat};
use std::os::fd::{AsFd, OwnedFd};

use super::grep::open_file;
use super::slices::Work;
use super::start::{Start, followed};
use super::walk::{Event, Walk};
use crate::files::error::FileError;
use crate::files::look::told;
use crate::files::place::Home;
use crate::files::read::fill;
use crate::files::request::Wanted;

/// Directories that hold only generated files.
const LEFT_OUT: [&[u8]; 2] = [b"node_modules", b"__pycache__"];

/// The state of one tree call.
pub struct Tree {
    walk: Option<Walk>,
    ready: Vec<TreeOutput>,
    held: usize,
    content_limit: u64,
    entries: u64,
    contents: u64,
    truncated: bool,
    full: bool,
}

const fn no_limit(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

impl Tree {
    /// Begins with the request's path.
    ///
    /// # Errors
    /// If nothing is there, or the path is refused.
    pub fn new(home: &Home, request: &TreeRequest, wanted: &Wanted) -> Result<Self, FileError> {
        let mut tree = Self {
            walk: None,
            ready: Vec::new(),
            held: 0,
            content_limit: request.content_limit.min(MAX_CONTENT),
            entries: no_limit(request.entry_limit),
            contents: no_limit(request.limit),
            truncated: false,
            full: false,
        };
        match followed(home, wanted)? {
            Start::Directory(directory) => {
                tree.add(0, b"", Kind::Folder, None);
                tree.walk = Walk::new(directory, b"").ok();
            }
            Start::File(file) => {
                let content = tree.content(file);
                tree.add(0, b"", Kind::File, content);
            }
            Start::Other => tree.add(0, b"", Kind::Special, None),
        }
        Ok(tree)
    }

    fn add(&mut self, depth: usize, name: &[u8], kind: Kind, content: Option<Bytes>) {
        if self.entries == 0 {
            (self.truncated, self.full) = (true, true);
            return;
        }
        self.entries -= 1;
        self.push(Output::Entry(TreeEntry {
            depth: u32::try_from(depth).unwrap_or(u32::MAX),
            name: Bytes::copy_from_slice(name),
            kind: kind.into(),
            text: content.is_some(),
        }));
        self.held += name.len();
        let content = content.unwrap_or_default();
        self.contents -= content.len() as u64;
        self.held += content.len();
        for start in (0..content.len()).step_by(CHUNK) {
            let piece = content.slice(start..content.len().min(start + CHUNK));
            self.push(Output::Content(piece));
        }
    }

    fn push(&mut self, output: Output) {
        self.held += size_of::<TreeOutput>();
        self.ready.push(TreeOutput {
            output: Some(output),
        });
    }

    /// Returns the content of a text file. A file that cannot be read has none; that is
    /// no error.
    fn content(&mut self, file: OwnedFd) -> Option<Bytes> {
        let size = fstat(&file).ok()?.st_size.unsigned_abs();
        if size >= self.content_limit || self.entries == 0 {
            return None;
        }
        let text = read_text(file, size, self.content_limit)?;
        if text.len() as u64 > self.contents {
            self.truncated = true;
            return None;
        }
        Some(text)
    }

    fn entry(&mut self, walk: &mut Walk, kind: FileType) {
        let name = walk.name().to_bytes();
        if name.starts_with(b".") || LEFT_OUT.contains(&name) {
            walk.skip();
            return;
        }
        let content = match kind {
            FileType::RegularFile => {
                let file = open_file(walk).ok().flatten();
                file.and_then(|file| self.content(file))
            }
            _ => None,
        };
        self.add(walk.depth(), walk.name().to_bytes(), told(kind), content);
    }
}

/// Reads a file that is UTF-8 and shorter than `limit`.
fn read_text(file: impl AsFd, size: u64, limit: u64) -> Option<Bytes> {
    // One more byte than expected, to see the end of the file.
    let mut text = vec![0; usize::try_from(size + 1).ok()?];
    let mut filled = fill(&file, &mut text).ok()?;
    if filled == text.len() {
        // The file has grown, or reports no size (as in sysfs).
        text.resize(usize::try_from(limit).ok()?, 0);
        filled += fill(&file, &mut text[filled..]).ok()?;
    }
    text.truncate(filled);
    let whole = (filled as u64) < limit && std::str::from_utf8(&text).is_ok();
    whole.then(|| text.into())
}

impl Work for Tree {
    type Output = TreeOutput;

    fn step(&mut self) -> bool {
        let Some(mut walk) = self.walk.take() else {
            return true;
        };
        let event = walk.next();
        // An unreadable directory was already sent as an entry; it counts as empty.
        if let Some(Event::Entry(kind)) = event {
            self.entry(&mut walk, kind);
        }
        self.truncated |= walk.truncated();
        self.walk = Some(walk);
        event.is_none() || self.full
    }

    fn held(&self) -> usize {
        self.held
    }

    fn take(&mut self) -> Vec<TreeOutput> {
        self.held = 0;
        std::mem::take(&mut self.ready)
    }

    fn end(&self) -> TreeOutput {
        TreeOutput {
            output: Some(Output::End(TreeEnd {
                truncated: self.truncated,
            })),
        }
    }
}
