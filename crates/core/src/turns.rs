//! Turns: of what has the same name, one goes on at a time in this process.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The names that are in use, and who waits for them.
pub struct Turns<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Turns<K> {
    /// Waits for the name, in the order of asking; it is free again when what is
    /// returned is dropped. Who gives up waiting holds up nobody.
    pub async fn take(&self, name: K) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever has a turn, or waits for it, holds it as well.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(all.entry(name).or_default())
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_name_is_taken_by_one_and_forgotten_by_all() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        assert!(turns.take("a").now_or_never().is_none());
        drop(turns.take("b").await);
        drop(first);
        drop(turns.take("a").await);
        assert_eq!(turns.0.lock().unwrap().len(), 1, "only the last is known");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_up_nobody() {
        let turns = Turns::default();
        let first = turns.take(1).await;
        let mut second = Box::pin(turns.take(1));
        assert!(futures::poll!(&mut second).is_pending());
        let mut third = Box::pin(turns.take(1));
        assert!(futures::poll!(&mut third).is_pending());
        drop(second);
        drop(first);
        drop(third.await);
    }
}
