//! The `Search` service: `grep -r`, `find -name` and a directory tree, without a
//! program of the image and without a shell.
//!
//! `pattern`, `bracket` and `glob` translate patterns; `walk` walks through
//! directories; `grep`, `find` and `tree` are the calls; `output` applies the output
//! limits; `slices` runs a search on the workers in short jobs; `service` translates
//! from gRPC. Nothing here changes a file, and only directories and regular files are
//! opened.
//!
//! The engine is `regex-automata` instead of `regex`: 0.5 MB of the binary instead of
//! 0.75, bytes instead of text, and linear time. `grep-searcher`, `ignore` and
//! `globset` would add all of `regex`, their own ignore rules and threads, and globs
//! that differ from fnmatch.

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
