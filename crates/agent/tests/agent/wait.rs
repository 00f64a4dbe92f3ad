//! Waits with a time limit. A failure says what was awaited and what was seen.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Status, Streaming};

/// Limit of every wait. The slowest of them takes a few seconds on a busy machine.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
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

/// Returns the result of `future`, which has to end within the limit.
pub async fn in_time<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    within_limit(WAIT_TIMEOUT, awaited, future).await
}

/// The same with a limit of its own.
pub async fn within_limit<T>(limit: Duration, awaited: &str, future: impl Future<Output = T>) -> T {
    let Ok(result) = timeout(limit, future).await else {
        panic!("not within {limit:?}: {awaited}");
    };
    result
}

/// Returns the next message of a stream; `None` after the last one.
pub async fn next_message<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    in_time("the next message of a stream", stream.message()).await
}
