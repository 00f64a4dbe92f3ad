//! Exponential backoff per object: an object that always fails is retried forever at
//! a low rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The count of failures restarts after this time without a failure.
const RESET_AFTER: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    until: Instant,
}

/// Failures in a row, by object UID.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<String, Failures>>);

impl Backoff {
    /// Counts a failure and returns the time to wait before the next attempt.
    pub fn failed(&self, uid: &str) -> Duration {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match all.get(uid) {
            Some(before) if now < before.last + RESET_AFTER => before.count + 1,
            _ => 1,
        };
        let wait = FIRST_WAIT
            .saturating_mul(1 << (count - 1).min(8))
            .min(MAX_WAIT);
        let until = now + wait;
        all.insert(
            uid.to_owned(),
            Failures {
                count,
                last: now,
                until,
            },
        );
        wait
    }

    /// The remaining time to wait; `None` if an attempt may start now.
    pub fn wait(&self, uid: &str) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = all.get(uid)?.until.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    pub fn clear(&self, uid: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_half_a_minute_and_reset_after_two_minutes() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.failed("a").as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff.failed("b"), FIRST_WAIT);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(backoff.wait("a"), Some(Duration::from_secs(20)));
        tokio::time::advance(RESET_AFTER).await;
        assert_eq!(backoff.wait("a"), None);
        assert_eq!(backoff.failed("a"), FIRST_WAIT);
        backoff.clear("a");
        assert_eq!(backoff.wait("a"), None);
    }
}
