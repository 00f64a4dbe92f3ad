//! `grep -r PATTERN PATH`, one step at a time. It only reads directories and regular
//! files.

use std::os::fd::OwnedFd;

use hutch_wire::v1::SearchOutput;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use super::lines::{Lines, Matcher};
use super::output::Printed;
use super::pattern;
use super::quote::{of_grep, reason};
use super::slices::Work;
use super::start::{Start, followed};
use super::walk::{Event, Walk};
use crate::files::error::FileError;
use crate::files::place::{Home, kind, refuse_proc};
use crate::files::request::Wanted;

/// Open flags that cannot block, even if another file type has replaced the file.
pub const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// The state of one search.
pub struct Grep {
    printed: Printed,
    matched: bool,
    troubled: bool,
    /// `None` if there is nothing to search.
    matcher: Option<Matcher>,
    walk: Option<Walk>,
    lines: Option<Lines>,
    /// The path of the current file, as printed.
    path: Vec<u8>,
    buffer: Vec<u8>,
}

impl Grep {
    /// Begins the search. An invalid pattern or path is reported in the output.
    pub fn new(home: &Home, pattern: &str, wanted: &Wanted, limit: u64) -> Self {
        let mut grep = Self {
            printed: Printed::new(limit),
            matched: false,
            troubled: false,
            matcher: None,
            walk: None,
            lines: None,
            path: wanted.path.as_bytes().to_vec(),
            buffer: Vec::new(),
        };
        match pattern::compile(pattern) {
            Ok(regex) => grep.matcher = Some(regex.into()),
            Err(wrong) => {
                grep.troubled = true;
                for what in wrong {
                    grep.printed.stderr(format!("grep: {what}\n").as_bytes());
                }
                return grep;
            }
        }
        if let Err(trouble) = grep.begin(home, wanted) {
            grep.trouble(&trouble);
        }
        grep
    }

    fn begin(&mut self, home: &Home, wanted: &Wanted) -> Result<(), FileError> {
        match followed(home, wanted)? {
            Start::Directory(directory) => {
                while self.path.ends_with(b"//") && self.path.len() > 2 {
                    self.path.pop();
                }
                self.walk = Some(Walk::new(directory, &self.path)?);
            }
            Start::File(file) => self.lines = Some(Lines::new(file, Vec::new())),
            Start::Other => return Err(FileError::Special),
        }
        Ok(())
    }

    fn trouble(&mut self, trouble: &FileError) {
        self.troubled = true;
        self.printed.stderr(&of_grep(&self.path, &reason(trouble)));
    }

    fn search(&mut self, mut lines: Lines) {
        let Some(matcher) = &mut self.matcher else {
            return;
        };
        let (printed, matched, path) = (&mut self.printed, &mut self.matched, &self.path);
        let named = self.walk.is_some();
        let done = lines.step(matcher, |line| {
            *matched = true;
            if named {
                printed.stdout(&[path, b":", line]);
            } else {
                printed.stdout(&[line]);
            }
            !printed.is_full()
        });
        self.printed.truncated |= lines.cut;
        if let Ok(false) = done {
            self.lines = Some(lines);
            return;
        }
        if lines.hidden {
            self.matched = true;
            self.printed
                .stderr(&of_grep(&self.path, "binary file matches"));
        }
        if let Err(problem) = done {
            self.trouble(&problem.into());
        }
        self.buffer = lines.into_buffer();
    }

    /// Opens the last entry of the walk.
    fn open(&mut self, walk: &Walk) {
        self.path.clear();
        self.path.extend_from_slice(walk.path());
        match open_file(walk) {
            Ok(Some(file)) => {
                let buffer = std::mem::take(&mut self.buffer);
                self.lines = Some(Lines::new(file, buffer));
            }
            Ok(None) => {}
            Err(problem) => self.trouble(&problem.into()),
        }
    }

    fn walk_on(&mut self) -> bool {
        let Some(mut walk) = self.walk.take() else {
            return true;
        };
        let event = walk.next();
        match event {
            Some(Event::Entry(FileType::RegularFile)) => self.open(&walk),
            Some(Event::Closed(problem)) => {
                self.path.clear();
                self.path.extend_from_slice(walk.path());
                self.trouble(&problem.into());
            }
            Some(Event::Entry(_)) | None => {}
        }
        self.printed.truncated |= walk.truncated();
        self.walk = Some(walk);
        event.is_none()
    }
}

/// Opens the last entry of the walk; `None` unless it is a regular file outside
/// `/proc`.
///
/// # Errors
/// The kernel's error.
pub fn open_file(walk: &Walk) -> Result<Option<OwnedFd>, Errno> {
    let file = walk.open(FILE)?;
    let regular = kind(&fstat(&file)?) == FileType::RegularFile;
    Ok((regular && refuse_proc(&file).is_ok()).then_some(file))
}

impl Work for Grep {
    type Output = SearchOutput;

    fn step(&mut self) -> bool {
        if self.matcher.is_none() || self.printed.is_full() {
            return true;
        }
        match self.lines.take() {
            Some(lines) => {
                self.search(lines);
                false
            }
            None => self.walk_on(),
        }
    }

    fn held(&self) -> usize {
        self.printed.held()
    }

    fn take(&mut self) -> Vec<SearchOutput> {
        self.printed.take()
    }

    fn end(&self) -> SearchOutput {
        self.printed.end(match (self.troubled, self.matched) {
            (true, _) => 2,
            (false, true) => 0,
            (false, false) => 1,
        })
    }
}
