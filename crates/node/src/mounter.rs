//! What a program has to be to mount buckets for us: run in the foreground, read
//! its keys from a file, and say on its output what went wrong.

use std::path::Path;

use super::{Error, Source};

/// A program that mounts a bucket by FUSE.
pub trait Mounter: Send + Sync {
    /// Program and arguments that mount `source` at `point` under the name
    /// `label`, with the keys in the file `keys`. No key is among them.
    ///
    /// # Errors
    /// [`Error::BadOption`] where an option of the source is not allowed.
    fn command(
        &self,
        source: &Source,
        label: &str,
        point: &Path,
        keys: &Path,
    ) -> Result<Vec<String>, Error>;

    /// Its environment, besides what every program has.
    fn environment(&self) -> Vec<(String, String)>;

    /// What is in the file of the keys.
    fn keys(&self, source: &Source) -> String;

    /// Why it failed, by all that it has written.
    fn explain(&self, source: &Source, output: &str) -> Error;
}
