//! What the API server said, believed for a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
}
