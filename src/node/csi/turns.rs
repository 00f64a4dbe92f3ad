//! One operation at a time for each volume; those for others go on beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Who has whose turn.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Weak<Turn<()>>>>);

impl Turns {
    /// Waits until nobody else works on that volume. Those who come first go first.
    pub async fn of(&self, volume: &str) -> OwnedMutexGuard<()> {
        self.turn(volume).lock_owned().await
    }

    fn turn(&self, volume: &str) -> Arc<Turn<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(volume).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::<Turn<()>>::default();
        all.insert(volume.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_volume_is_worked_on_once_at_a_time() {
        let turns = Turns::default();
        let first = turns.of("a").await;
        assert!(turns.of("a").now_or_never().is_none());
        assert!(turns.of("b").now_or_never().is_some());
        drop(first);
        assert!(turns.of("a").now_or_never().is_some());
        turns.turn("c");
        assert!(turns.0.lock().unwrap().len() <= 1);
    }
}
