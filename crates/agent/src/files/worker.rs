//! Worker threads for file operations; they exist while there is work.
//!
//! A stream holds no thread while it waits for its client: each piece is a job of its
//! own. Descriptors are closed on a worker as well, because closing a file of a mounted
//! bucket can take as long as writing it.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::error::FileError;

/// Most file operations that run at the same time; others wait.
pub const MAX_THREADS: usize = 16;
/// Stack of a worker thread; its calls are shallow.
pub const STACK_BYTES: usize = 256 << 10;
/// How long an idle thread lives.
pub const THREAD_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `job` on a worker.
///
/// # Errors
/// Those of the job.
pub async fn work<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    spawn_blocking(job)
        .await
        .unwrap_or(Err(FileError::ShuttingDown))
}

/// A value that is dropped on a worker, wherever its owner drops it.
#[derive(Debug)]
pub struct DropOnWorker<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> DropOnWorker<T> {
    pub const fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub const fn get(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }

    /// Returns the value; it is no longer dropped on a worker.
    pub fn take(mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T: Send + 'static> Drop for DropOnWorker<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(value));
        }
    }
}
