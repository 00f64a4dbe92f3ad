//! State that the parts of the agent share.
//!
//! Only the agent's main thread takes them, and a lock is never held across an await, so
//! nothing ever waits here; it is a mutex because the server's types must be
//! `Send`. A panic aborts the process, so a poisoned lock cannot be met.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex without the question of poisoning.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Holds `value`.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// The value, for as long as the guard lives; never keep it over an await.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
