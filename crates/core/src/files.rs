//! Names and kinds of files in a sandbox.

use bytes::Bytes;

/// Longest path in bytes: PATH_MAX of Linux.
pub const MAX_PATH_BYTES: usize = 4096;

/// A path in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath {
    /// The path. A relative one starts at `base`.
    pub path: String,
    /// A directory, in the form of the kernel. Empty: the workspace.
    pub base: Bytes,
}

/// The kind of file at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing.
    Missing,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A device, pipe, socket or link.
    Special,
}
