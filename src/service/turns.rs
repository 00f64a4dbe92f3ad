//! Turns: of what has the same name, one goes on at a time in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The names that are in use, and who waits for them.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the name, in the order of asking; it is free again when what is
    /// returned is dropped.
    pub async fn take(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever has a turn, or waits for it, holds it as well.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(all.entry(name.to_owned()).or_default())
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
}
