//! Searches in the sandbox's files: what `grep -r`, `find -name` and a tree
//! would show, without a program of the image and without a shell.
//!
//! `pattern`, `bracket` and `glob` understand patterns, `walk` goes through
//! folders, `grep`, `find` and `tree` are the calls, `slices` runs them on the
//! workers a little at a time, `service` translates from gRPC. Nothing here
//! changes anything, and opens anything but folders and regular files.
//!
//! The engine is `regex-automata`, without what we do not need of `regex`: half
//! the size (0.5 MB of the agent instead of 0.75), bytes instead of text, and a
//! time that is linear in the text. `grep-searcher`, `ignore` and `globset` would
//! bring the whole of `regex`, rules of their own for files to pass over, threads
//! of their own, and globs that are not fnmatch's.

mod bracket;
mod find;
mod glob;
mod grep;
mod lines;
mod output;
mod pattern;
mod quote;
mod service;
mod slices;
mod start;
mod tree;
mod walk;

pub use service::Search;
