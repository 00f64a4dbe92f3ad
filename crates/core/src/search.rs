//! Searches in a sandbox's files: requests and results.

use std::time::Duration;

use bytes::Bytes;

/// Longest pattern in bytes.
pub const MAX_PATTERN_BYTES: usize = 16 << 10;

/// Exit code of a search that the timeout ended.
pub const TIMED_OUT: i32 = 124;

/// The limits of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchLimits {
    /// Most bytes that are kept of stdout, and of stderr.
    pub output: u64,
    /// When it passes, the search ends and returns its results so far.
    pub time: Duration,
}

/// The output of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchOutput {
    /// Standard output, byte for byte.
    pub stdout: Bytes,
    /// Standard error, byte for byte.
    pub stderr: Bytes,
    /// The exit code of grep or find; [`TIMED_OUT`] if the timeout ended it.
    pub exit_code: i32,
    /// True if output beyond the limit was dropped.
    pub truncated: bool,
}

/// The limits of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLimits {
    /// Files with fewer bytes have their content in the tree; at most 1 MiB.
    pub content: u64,
    /// Number of entries, with the root.
    pub entries: u64,
    /// Total bytes of all contents.
    pub contents: u64,
    /// When it passes, the tree ends at the entry that it has reached.
    pub time: Duration,
}

/// A directory and everything below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// In walk order: the root, and after each directory its entries, sorted by name. The
    /// depth grows by at most one from one entry to the next.
    pub entries: Vec<TreeEntry>,
    /// True if entries or contents beyond the limits are missing.
    pub truncated: bool,
}

/// A name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// 0 for the root, 1 for its entries.
    pub depth: u32,
    /// The name of the file system, without a slash. Empty for the root.
    pub name: Bytes,
    /// The kind of file.
    pub kind: TreeKind,
    /// The content of a text file within the limits.
    pub content: Option<String>,
}

/// The kind of an entry in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link. It is not followed.
    Link,
    /// A device, pipe or socket.
    Special,
}
