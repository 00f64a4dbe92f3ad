//! Periodic work on sandboxes. Many are worked on at the same time, so a slow one
//! does not delay the others.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, interval};

/// The number of sandboxes that are worked on at the same time.
const MAX_CONCURRENT: usize = 32;

/// Asks `due` for sandboxes every `period`, and runs `work` on each. It runs for as
/// long as it is polled.
///
/// `due` gets the sandboxes that are still being worked on and the number of further
/// ones that may start. It must not return more than that number, nor one of the
/// former.
pub async fn run_periodically<T, F>(
    period: Duration,
    due: impl Fn(&HashSet<String>, usize) -> Vec<(String, T)>,
    work: impl Fn(String, T) -> F,
) where
    F: Future<Output = ()>,
{
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut busy = HashSet::new();
    let mut working = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(done) = working.next() => {
                busy.remove(&done);
                continue;
            }
        }
        for (name, item) in due(&busy, MAX_CONCURRENT - busy.len()) {
            busy.insert(name.clone());
            let work = work(name.clone(), item);
            working.push(async move {
                work.await;
                name
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_sandbox_does_not_delay_the_others() {
        let done = Mutex::new(Vec::new());
        let names = ["slow", "a", "b"];
        let due = |busy: &HashSet<String>, room: usize| {
            let idle = names.iter().filter(|name| !busy.contains(**name));
            idle.take(room)
                .map(|name| ((*name).to_owned(), ()))
                .collect()
        };
        let work = |name: String, ()| {
            let done = &done;
            async move {
                if name == "slow" {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                done.lock().unwrap().push(name);
            }
        };
        let all = run_periodically(Duration::from_secs(1), due, work);
        let _ = tokio::time::timeout(Duration::from_millis(9500), all).await;
        let done = done.lock().unwrap();
        let times = |name: &str| done.iter().filter(|done| *done == name).count();
        assert_eq!((times("slow"), times("a"), times("b")), (0, 10, 10));
    }
}
