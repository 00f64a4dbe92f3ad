//! Waits before retries, per object: an object that always fails is retried forever at a low
//! rate.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use hutch_core::backoff::Backoff;
use hutch_core::sync::Lock;

const WAITS: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// The count of failures restarts after this time without a failure.
const RESET_AFTER: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    until: Instant,
}

/// Failures in a row, by the key of an object.
#[derive(Default)]
pub struct RetryDelays(Lock<HashMap<String, Failures>>);

impl RetryDelays {
    /// Counts a failure and returns the time to wait before the next attempt.
    pub fn failed(&self, key: &str) -> Duration {
        let now = Instant::now();
        let mut all = self.0.lock();
        let count = match all.get(key) {
            Some(before) if now < before.last + RESET_AFTER => before.count + 1,
            _ => 1,
        };
        let wait = WAITS.after(count);
        let failures = Failures {
            count,
            last: now,
            until: now + wait,
        };
        all.insert(key.to_owned(), failures);
        wait
    }

    /// The remaining time to wait; `None` if an attempt may start now.
    pub fn wait(&self, key: &str) -> Option<Duration> {
        let until = self.0.lock().get(key)?.until;
        let left = until.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    pub fn clear(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_half_a_minute_and_reset_after_two_minutes() {
        let delays = RetryDelays::default();
        let waits: Vec<_> = (0..8).map(|_| delays.failed("a").as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(delays.failed("b"), WAITS.after(1));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(delays.wait("a"), Some(Duration::from_secs(20)));
        tokio::time::advance(RESET_AFTER).await;
        assert_eq!(delays.wait("a"), None);
        assert_eq!(delays.failed("a"), WAITS.after(1));
        delays.clear("a");
        assert_eq!(delays.wait("a"), None);
    }
}
