//! The languages and checkers of an image. They need little of a sandbox: see [`Runner`].

mod diagnostics;
mod languages;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Limits, Place, ServiceError};
use hutch_core::exec::{ExecOutcome, ExecRequest};
use hutch_core::search::Tree;

pub use diagnostics::{Diagnosis, Finding, MAX_FILES};
pub use languages::LanguageError;

/// A sandbox in which toolchains run. A relative path starts at the place's working
/// directory.
pub(crate) trait Runner: Send + Sync {
    /// Runs one command and waits for its end.
    fn exec<'a>(
        &'a self,
        place: &'a Place,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, ServiceError>>;

    /// Reads a file of at most `limit` bytes.
    fn read<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, ServiceError>>;

    /// Creates or replaces a file.
    fn write<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<(), ServiceError>>;

    /// Deletes a file.
    fn delete<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
    ) -> BoxFuture<'a, Result<(), ServiceError>>;

    /// Returns true if something exists at the path.
    fn exists<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
    ) -> BoxFuture<'a, Result<bool, ServiceError>>;

    /// The working directory with everything below it, without the contents of files.
    fn names<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Tree, ServiceError>>;
}

/// Runs code in the languages, and sources through the checkers, that an image has.
pub struct Toolchains {
    runner: Arc<dyn Runner>,
    /// The bytes that are kept of the stdout of code, and as many of its stderr.
    max_output: u64,
    /// The timeout of code that names none.
    execute_timeout: Duration,
}

impl Toolchains {
    pub(crate) fn new(runner: Arc<dyn Runner>, limits: Limits, execute_timeout: Duration) -> Self {
        Self {
            runner,
            max_output: limits.max_output,
            execute_timeout,
        }
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
