//! Waits with a deadline. A failure says what was awaited and what was seen.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Bounds every wait. The slowest of them takes a few seconds on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Looks again and again until `done` accepts what `look` returns.
pub async fn eventually<S: Debug>(
    awaited: &str,
    mut look: impl AsyncFnMut() -> S,
    done: impl Fn(&S) -> bool,
) -> S {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    let mut last = None;
    loop {
        let Ok(seen) = timeout_at(deadline, look()).await else {
            panic!(
                "not within {WAIT_TIMEOUT:?}: {awaited}; the last look did not end; before it: {last:?}"
            );
        };
        if done(&seen) {
            return seen;
        }
        assert!(
            Instant::now() < deadline,
            "not within {WAIT_TIMEOUT:?}: {awaited}; seen: {seen:?}"
        );
        last = Some(seen);
        sleep(POLL_INTERVAL).await;
    }
}

/// The result of `future`, which has to end before the same deadline.
pub async fn in_time<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    let Ok(result) = timeout(WAIT_TIMEOUT, future).await else {
        panic!("not within {WAIT_TIMEOUT:?}: {awaited}");
    };
    result
}
