//! Where file work is done: a few threads that exist while there is work.
//!
//! A stream of a file never keeps a thread while it waits for its client; each
//! piece is a job of its own. Descriptors are closed on a worker as well, for
//! closing a file of a mounted bucket can take as long as writing it.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::trouble::Trouble;

/// Most file operations that can be slow at the same moment; others wait.
pub const THREADS: usize = 16;
/// Stack of such a thread; what it does is shallow.
pub const STACK: usize = 256 << 10;
/// How long such a thread outlives its work.
pub const IDLE: Duration = Duration::from_secs(5);

/// Does `job` on a worker.
///
/// # Errors
/// Those of the job.
pub async fn work<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    spawn_blocking(job)
        .await
        .unwrap_or(Err(Trouble::ShuttingDown))
}

/// Something that is dropped on a worker, wherever its owner ends.
#[derive(Debug)]
pub struct Away<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Away<T> {
    /// Holds `value`.
    pub const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value.
    pub const fn get(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }

    /// Takes the value out, for good.
    pub fn take(mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T: Send + 'static> Drop for Away<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(value));
        }
    }
}
