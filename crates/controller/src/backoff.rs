//! Waiting times per object that double with every failure in a row, so that one
//! bad object is tried again and again without being a burden.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Without a failure for this long, counting begins anew.
const FORGIVEN: Duration = Duration::from_secs(120);

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
    /// Counts a failure and says how long to wait.
    pub fn failed(&self, uid: &str) -> Duration {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match all.get(uid) {
            Some(before) if now < before.last + FORGIVEN => before.count + 1,
            _ => 1,
        };
        let wait = FIRST.saturating_mul(1 << (count - 1).min(8)).min(LONGEST);
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

    /// How much longer to wait; `None` where there is nothing to wait for.
    pub fn wait(&self, uid: &str) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = all.get(uid)?.until.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// Forgets the object's failures.
    pub fn clear(&self, uid: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(uid);
    }

    /// Forgets every object but those of `uids`.
    pub fn retain(&self, uids: &std::collections::HashSet<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|uid, _| uids.contains(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_half_a_minute_and_are_forgiven() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.failed("a").as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff.failed("b"), FIRST);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(backoff.wait("a"), Some(Duration::from_secs(20)));
        tokio::time::advance(FORGIVEN).await;
        assert_eq!(backoff.wait("a"), None);
        assert_eq!(backoff.failed("a"), FIRST);
        backoff.clear("a");
        assert_eq!(backoff.wait("a"), None);
    }
}
