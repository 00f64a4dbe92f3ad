//! Files of a sandbox, as callers name them and agents find them.

use bytes::Bytes;

/// Longest path, in bytes: what the kernel takes.
pub const MAX_PATH: usize = 4096;

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath {
    /// The path; a relative one begins at `base`.
    pub path: String,
    /// A folder, as the kernel has its path. Empty: the workspace.
    pub base: Bytes,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing.
    Missing,
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, pipe, socket or link.
    Special,
}
