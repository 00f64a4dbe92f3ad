//! The interface of a program that mounts buckets. It must run in the foreground, read its
//! credentials from a file and print errors.

use std::path::Path;

use super::{Error, Source};

/// A program that mounts a bucket with FUSE.
pub trait Mounter: Send + Sync {
    /// The program and its arguments. They mount `source` at `point` with the mount source
    /// `label` and read the credentials from the file `keys`. The arguments contain no
    /// credentials.
    ///
    /// # Errors
    /// [`Error::BadOption`] if an option of the source is not allowed.
    fn command(
        &self,
        source: &Source,
        label: &str,
        point: &Path,
        keys: &Path,
    ) -> Result<Vec<String>, Error>;

    /// Environment variables beside `PATH` and `HOME`.
    fn environment(&self) -> Vec<(String, String)>;

    /// Content of the credentials file.
    fn keys(&self, source: &Source) -> String;

    /// Derives the reason for a failure from the program's output.
    fn explain(&self, source: &Source, output: &str) -> Error;
}
