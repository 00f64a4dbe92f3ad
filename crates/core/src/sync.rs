//! Locks: a mutex that cannot be poisoned, and a mutex per key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// A mutex whose `lock` returns no error. It ignores poisoning, so a value behind it must
/// be valid after every statement that changes it. Do not hold the guard over an `await`.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One mutex per key, for the tasks of this process. A key needs no memory while nobody
/// holds its mutex or waits for it.
pub struct KeyedMutex<K>(Lock<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for KeyedMutex<K> {
    fn default() -> Self {
        Self(Lock::new(HashMap::new()))
    }
}

impl<K: Hash + Eq> KeyedMutex<K> {
    /// Waits for the mutex of `key`, first come, first served. The key is free when the
    /// guard is dropped. A caller that drops the future delays nobody.
    pub async fn lock(&self, key: K) -> OwnedMutexGuard<()> {
        let mutex = {
            let mut all = self.0.lock();
            // Holders and waiters have a reference of their own.
            all.retain(|_, mutex| Arc::strong_count(mutex) > 1);
            Arc::clone(all.entry(key).or_default())
        };
        mutex.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_key_has_one_holder_and_is_forgotten_when_it_is_free() {
        let keys = KeyedMutex::default();
        let first = keys.lock("a").await;
        assert!(keys.lock("a").now_or_never().is_none());
        drop(keys.lock("b").await);
        drop(first);
        drop(keys.lock("a").await);
        assert_eq!(keys.0.lock().len(), 1, "only the last key is left");
    }

    #[tokio::test]
    async fn a_caller_that_stops_waiting_delays_nobody() {
        let keys = KeyedMutex::default();
        let first = keys.lock(1).await;
        let mut second = Box::pin(keys.lock(1));
        assert!(futures::poll!(&mut second).is_pending());
        let mut third = Box::pin(keys.lock(1));
        assert!(futures::poll!(&mut third).is_pending());
        drop(second);
        drop(first);
        drop(third.await);
    }

    #[test]
    fn a_panic_of_a_holder_leaves_the_lock_usable() {
        let lock = Arc::new(Lock::new(1));
        let held = lock.clone();
        let panicked = std::thread::spawn(move || {
            let _guard = held.lock();
            panic!("expected by the test");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*lock.lock(), 1);
    }
}
