//! `find PATH -name NAME`, one step at a time. It only reads directories.

use hutch_wire::v1::SearchOutput;

use super::glob::Glob;
use super::output::Printed;
use super::quote::of_find;
use super::slices::Work;
use super::start::{Start, itself};
use super::walk::{Event, Walk};
use crate::files::error::FileError;
use crate::files::place::Home;
use crate::files::request::Wanted;

/// The state of one search.
pub struct Find {
    glob: Glob,
    printed: Printed,
    troubled: bool,
    walk: Option<Walk>,
}

/// The last component of a path as find has it; `/` for the root.
fn name(path: &[u8]) -> &[u8] {
    let slashes = path.iter().rev().take_while(|byte| **byte == b'/').count();
    match &path[..path.len() - slashes] {
        [] => b"/",
        named => named.rsplit(|byte| *byte == b'/').next().unwrap_or(named),
    }
}

impl Find {
    /// Begins the search. An invalid path is reported in the output.
    pub fn new(home: &Home, pattern: &str, wanted: &Wanted, limit: u64) -> Self {
        let mut find = Self {
            glob: Glob::new(pattern),
            printed: Printed::new(limit),
            troubled: false,
            walk: None,
        };
        let path = wanted.path.as_bytes();
        match itself(home, wanted) {
            Ok(start) => {
                find.test(name(path), path);
                if let Start::Directory(directory) = start {
                    match Walk::new(directory, path) {
                        Ok(walk) => find.walk = Some(walk),
                        Err(problem) => find.trouble(path, &problem.into()),
                    }
                }
            }
            Err(trouble) => find.trouble(path, &trouble),
        }
        find
    }

    fn test(&mut self, name: &[u8], path: &[u8]) {
        if self.glob.matches(name) {
            self.printed.stdout(&[path, b"\n"]);
        }
    }

    fn trouble(&mut self, path: &[u8], trouble: &FileError) {
        self.troubled = true;
        self.printed.stderr(&of_find(path, trouble));
    }
}

impl Work for Find {
    type Output = SearchOutput;

    fn step(&mut self) -> bool {
        if self.printed.is_full() {
            return true;
        }
        let Some(mut walk) = self.walk.take() else {
            return true;
        };
        let event = walk.next();
        match event {
            Some(Event::Entry(_)) => self.test(walk.name().to_bytes(), walk.path()),
            Some(Event::Closed(problem)) => self.trouble(walk.path(), &problem.into()),
            None => {}
        }
        self.printed.truncated |= walk.truncated();
        self.walk = Some(walk);
        event.is_none()
    }

    fn held(&self) -> usize {
        self.printed.held()
    }

    fn take(&mut self) -> Vec<SearchOutput> {
        self.printed.take()
    }

    fn end(&self) -> SearchOutput {
        self.printed.end(i32::from(self.troubled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_in_a_name() {
        for (path, wanted) in [
            ("a", "a"),
            ("a/b", "b"),
            ("a/b//", "b"),
            ("/", "/"),
            ("//", "/"),
            (".", "."),
            ("a/..", ".."),
            ("/a", "a"),
        ] {
            assert_eq!(name(path.as_bytes()), wanted.as_bytes());
        }
    }
}
