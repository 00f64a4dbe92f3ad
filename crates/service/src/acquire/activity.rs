//! Records when sandboxes are used: the controller suspends idle ones by that. The
//! times are kept in memory and written to `status.lastActivity` at intervals, never
//! once per command. A sandbox whose idle timeout is near is written at once, so that
//! it does not fall asleep while it is used.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::periodic::run_periodically;
use hutch_api::Sandbox;
use hutch_core::deadlines;
use hutch_core::interfaces::{Commands, PodRef, Sandboxes};
use hutch_core::sync::Lock;

/// The shortest time between two writes for a sandbox without idle timeout.
const WRITE_INTERVAL: Duration = Duration::from_secs(30);
/// The time between two searches for sandboxes that are due.
const TICK: Duration = Duration::from_millis(250);

/// By name of the sandbox.
type Usages = Arc<Lock<HashMap<String, Usage>>>;

/// The sandboxes that are in use, or were in use since their last write.
pub struct Activity {
    sandboxes: Arc<dyn Sandboxes>,
    agents: Arc<dyn Commands>,
    usages: Usages,
}

struct Usage {
    /// Requests in progress.
    users: usize,
    last_used: Timestamp,
    /// The time of the last write; before the first write, of the first use.
    last_written: Instant,
}

/// A request in progress. Dropping it ends the use.
pub struct Use {
    usages: Usages,
    name: String,
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(usage) = self.usages.lock().get_mut(&self.name) {
            usage.users -= 1;
            usage.last_used = Timestamp::now();
        }
    }
}

impl Activity {
    pub fn new(sandboxes: Arc<dyn Sandboxes>, agents: Arc<dyn Commands>) -> Self {
        Self {
            sandboxes,
            agents,
            usages: Usages::default(),
        }
    }

    /// Notes that a request uses the sandbox until the returned guard is dropped.
    pub fn begin(&self, name: &str) -> Use {
        let now = Timestamp::now();
        let mut usages = self.usages.lock();
        let usage = usages.entry(name.to_owned()).or_insert(Usage {
            users: 0,
            last_used: now,
            last_written: Instant::now(),
        });
        usage.users += 1;
        usage.last_used = now;
        Use {
            usages: self.usages.clone(),
            name: name.to_owned(),
        }
    }

    /// Writes the activity of used sandboxes for as long as it is polled. Run it once.
    pub async fn run_recorder(&self) {
        let due = |busy: &HashSet<String>, room: usize| {
            let names: Vec<_> = self.usages.lock().keys().cloned().collect();
            let names = names.into_iter().filter(|name| !busy.contains(name));
            let due = names.filter(|name| self.is_due(name)).take(room);
            due.map(|name| (name, ())).collect()
        };
        let record = |name: String, ()| async move { self.record_use(&name).await };
        run_periodically(TICK, due, record).await;
    }

    /// True if the sandbox's activity is to be written now. A sandbox that is gone is
    /// removed from the log.
    fn is_due(&self, name: &str) -> bool {
        let Some(sandbox) = self.sandboxes.get(name) else {
            self.forget(name);
            return false;
        };
        let written = self.usages.lock().get(name).map(|usage| usage.last_written);
        written.is_some_and(|at| at.elapsed() >= write_interval(&sandbox) || sleeps_soon(&sandbox))
    }

    async fn record_use(&self, name: &str) {
        let Some(sandbox) = self.sandboxes.get(name) else {
            return;
        };
        let Some((users, last)) = self
            .usages
            .lock()
            .get(name)
            .map(|usage| (usage.users, usage.last_used))
        else {
            return;
        };
        // Only a sandbox that may fall asleep needs to know of background processes.
        let may_sleep = deadlines::sleeps_at(&sandbox).is_some();
        let busy = users > 0 || (may_sleep && self.runs_something(&sandbox).await);
        let at = if busy { Timestamp::now() } else { last };
        // Until the sandbox answers, its start belongs to the trace that woke it: a
        // write without `traceparent` would clear that.
        let status = sandbox.status.as_ref();
        let starting = status.filter(|status| !status.phase.answers());
        let trace = starting.and_then(|status| status.traceparent.clone());
        match self.sandboxes.record_activity(name, at, trace).await {
            Ok(_) if busy => {
                if let Some(usage) = self.usages.lock().get_mut(name) {
                    usage.last_written = Instant::now();
                }
            }
            Ok(_) => self.forget_unused_since(name, last),
            Err(error) => tracing::warn!(sandbox = name, %error, "activity was not recorded"),
        }
    }

    /// True if commands run, or processes that outlived their command.
    async fn runs_something(&self, sandbox: &Sandbox) -> bool {
        let Some(pod) = PodRef::ready(sandbox) else {
            return false;
        };
        let activity = self.agents.activity(&pod).await;
        activity.is_some_and(|activity| activity.running > 0 || activity.background > 0)
    }

    fn forget(&self, name: &str) {
        let mut usages = self.usages.lock();
        if usages.get(name).is_some_and(|usage| usage.users == 0) {
            usages.remove(name);
        }
    }

    fn forget_unused_since(&self, name: &str, last: Timestamp) {
        let mut usages = self.usages.lock();
        match usages.get_mut(name) {
            Some(usage) if usage.users > 0 || usage.last_used > last => {
                usage.last_written = Instant::now()
            }
            _ => {
                usages.remove(name);
            }
        }
    }
}

/// The shortest time between two writes for this sandbox: a third of its idle timeout,
/// so that several writes fall into it.
fn write_interval(sandbox: &Sandbox) -> Duration {
    let idle = sandbox.spec.lifecycle.idle_timeout.as_deref();
    match idle.and_then(deadlines::parse) {
        Some(idle) => WRITE_INTERVAL.min(idle / 3),
        None => WRITE_INTERVAL,
    }
}

/// True if the sandbox would fall asleep before the write after the next.
fn sleeps_soon(sandbox: &Sandbox) -> bool {
    let near = Timestamp::now() + 2 * write_interval(sandbox);
    deadlines::sleeps_at(sandbox).is_some_and(|at| at <= near)
}
