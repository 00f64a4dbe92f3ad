//! Searches in a sandbox's files, as callers ask for them and agents answer.

use std::time::Duration;

use bytes::Bytes;

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 16 << 10;

/// Exit code of a search that its time limit ended.
pub const TIMED_OUT: i32 = 124;

/// The bounds of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchLimits {
    /// Bytes kept of each of stdout and stderr.
    pub output: u64,
    /// When it passes, the search ends with what it has found.
    pub time: Duration,
}

/// What a search has printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchOutput {
    /// Standard output, byte for byte.
    pub stdout: Bytes,
    /// Standard error, byte for byte.
    pub stderr: Bytes,
    /// That of grep or find; [`TIMED_OUT`] where the time limit ended it.
    pub exit_code: i32,
    /// Whether there would have been more.
    pub truncated: bool,
}

/// The bounds of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLimits {
    /// Contents come of files with fewer bytes; at most 1 MiB.
    pub content: u64,
    /// Entries, the root included.
    pub entries: u64,
    /// Bytes of all contents together.
    pub contents: u64,
    /// When it passes, the tree ends where it is.
    pub time: Duration,
}

/// A folder and all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// In walk order: the root, and after each folder what is in it, sorted by
    /// name. No entry is more than one deeper than the one before it.
    pub entries: Vec<TreeEntry>,
    /// Whether there would have been more entries or contents.
    pub truncated: bool,
}

/// A name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// 0 is the root, 1 what is in it.
    pub depth: u32,
    /// As the file system has it, without a slash; empty for the root.
    pub name: Bytes,
    /// What it is.
    pub kind: TreeKind,
    /// Of a file that is text and within the limits.
    pub content: Option<String>,
}

/// What is in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, to whatever it leads; it is not followed.
    Link,
    /// A device, pipe or socket.
    Special,
}
