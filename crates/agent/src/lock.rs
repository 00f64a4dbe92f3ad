//! A mutex for state that parts of the agent share.
//!
//! Only the main thread locks it and never holds it across an await, so nothing ever
//! waits here. It is a mutex only because the server's types must be `Send`. A panic
//! aborts the process, so the mutex cannot be poisoned.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex whose `lock` returns no error: it ignores poisoning.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Locks the value. Never hold the guard across an await.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
