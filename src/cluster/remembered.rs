//! What the API server said, believed for a time, and turns to ask it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turns, OwnedMutexGuard};
use tokio::time::Instant;

/// Answers by question: so many, of which the one nearest to its end makes way.
pub struct Remembered<K, V> {
    most: usize,
    answers: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Hash + Eq + Clone, V: Clone> Remembered<K, V> {
    /// None yet, and at most so many.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            answers: Mutex::default(),
        }
    }

    /// The answer, while it is believed.
    pub fn get(&self, question: &K) -> Option<V> {
        let answers = lock(&self.answers);
        let (until, answer) = answers.get(question)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    /// Whether there was an answer, which may be past.
    pub fn had(&self, question: &K) -> bool {
        lock(&self.answers).contains_key(question)
    }

    /// Believes the answer for so long.
    pub fn put(&self, question: K, answer: V, time: Duration) {
        let mut answers = lock(&self.answers);
        if answers.len() >= self.most && !answers.contains_key(&question) {
            let nearest = answers.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(nearest) = nearest.map(|(question, _)| question.clone()) {
                answers.remove(&nearest);
            }
        }
        answers.insert(question, (Instant::now() + time, answer));
    }

    /// As if there had never been an answer.
    pub fn forget(&self, question: &K) {
        lock(&self.answers).remove(question);
    }
}

/// Who asks what: one at a time asks the same.
pub struct Asking<K: Hash + Eq>(Mutex<HashMap<K, Arc<Turns<()>>>>);

/// The turn to ask; dropping it passes it on.
pub struct Turn<'a, K: Hash + Eq> {
    asking: &'a Asking<K>,
    question: K,
    turns: Option<Arc<Turns<()>>>,
    mine: Option<OwnedMutexGuard<()>>,
}

impl<K: Hash + Eq> Default for Asking<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Asking<K> {
    /// Waits until nobody else asks that.
    pub async fn turn(&self, question: K) -> Turn<'_, K> {
        let turns = lock(&self.0).entry(question.clone()).or_default().clone();
        // Made before the wait, which may be given up.
        let mut turn = Turn {
            asking: self,
            question,
            turns: Some(turns.clone()),
            mine: None,
        };
        turn.mine = Some(turns.lock_owned().await);
        turn
    }
}

impl<K: Hash + Eq> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        let mut asking = lock(&self.asking.0);
        drop((self.mine.take(), self.turns.take()));
        let turns = asking.get(&self.question);
        if turns.is_some_and(|turns| Arc::strong_count(turns) == 1) {
            asking.remove(&self.question);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_for_its_time() {
        let answers = Remembered::new(2);
        answers.put("who", "me", 2 * SECOND);
        tokio::time::advance(SECOND).await;
        assert_eq!(answers.get(&"who"), Some("me"));
        tokio::time::advance(SECOND).await;
        assert_eq!((answers.get(&"who"), answers.had(&"who")), (None, true));
        answers.forget(&"who");
        assert!(!answers.had(&"who"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_answer_takes_the_place_of_the_one_nearest_to_its_end() {
        let answers = Remembered::new(2);
        answers.put("long", 1, 9 * SECOND);
        answers.put("short", 2, SECOND);
        answers.put("new", 3, 5 * SECOND);
        answers.put("long", 4, 9 * SECOND);
        let got = ["long", "short", "new"].map(|question| answers.get(&question));
        assert_eq!(got, [Some(4), None, Some(3)]);
    }

    #[tokio::test]
    async fn the_same_is_asked_by_one_at_a_time_and_nothing_stays_behind() {
        let asking = Asking::default();
        let (first, other) = (asking.turn(1).await, asking.turn(2).await);
        let mut second = Box::pin(asking.turn(1));
        assert!(futures::poll!(&mut second).is_pending());
        let mut third = Box::pin(asking.turn(1));
        assert!(futures::poll!(&mut third).is_pending());
        // One that gives up waiting holds up nobody.
        drop(second);
        drop(first);
        drop((third.await, other));
        assert!(lock(&asking.0).is_empty());
    }
}
