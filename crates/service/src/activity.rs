//! The record of use that sleeping goes by: who was used when is kept here and
//! written to `status.lastActivity` now and then, never once per command. A
//! sandbox whose idle time-out is near is written at once, so that none falls
//! asleep while it is used.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Service;
use super::rounds::rounds;
use hutch_api::Sandbox;
use hutch_core::deadlines;
use hutch_core::interfaces::PodRef;

/// How often a used sandbox is written about at most.
const EVERY: Duration = Duration::from_secs(30);
/// How often what is due is looked for.
const TICK: Duration = Duration::from_millis(250);

/// Which sandboxes are, or were since they were last written about, in use.
#[derive(Default)]
pub struct ActivityLog(Arc<Mutex<HashMap<String, Entry>>>);

struct Entry {
    users: usize,
    last: Timestamp,
    /// When it was last written about, or first used.
    since: Instant,
}

/// A request in progress; dropping it ends the use.
pub struct Use {
    log: Arc<Mutex<HashMap<String, Entry>>>,
    name: String,
}

impl ActivityLog {
    /// Records that a request uses the sandbox from now on.
    pub fn begin(&self, name: &str) -> Use {
        let now = Timestamp::now();
        let mut entries = lock(&self.0);
        let entry = entries.entry(name.to_owned()).or_insert(Entry {
            users: 0,
            last: now,
            since: Instant::now(),
        });
        entry.users += 1;
        entry.last = now;
        Use {
            log: self.0.clone(),
            name: name.to_owned(),
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(entry) = lock(&self.log).get_mut(&self.name) {
            entry.users -= 1;
            entry.last = Timestamp::now();
        }
    }
}

fn lock(log: &Mutex<HashMap<String, Entry>>) -> MutexGuard<'_, HashMap<String, Entry>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// Writes about used sandboxes for as long as it is polled.
    pub async fn record_activity(self: Arc<Self>) {
        let service = &self;
        let due = |busy: &HashSet<String>, room: usize| {
            let names: Vec<_> = lock(&service.activity.0).keys().cloned().collect();
            let names = names.into_iter().filter(|name| !busy.contains(name));
            let due = names.filter(|name| service.is_due(name)).take(room);
            due.map(|name| (name, ())).collect()
        };
        let record = |name: String, ()| async move { service.record_use(&name).await };
        rounds(TICK, due, record).await;
    }

    /// Whether the sandbox is to be written about; one that is gone is forgotten.
    fn is_due(&self, name: &str) -> bool {
        let Some(sandbox) = self.sandboxes.get(name) else {
            self.forget(name);
            return false;
        };
        let since = lock(&self.activity.0).get(name).map(|entry| entry.since);
        since.is_some_and(|since| since.elapsed() >= interval(&sandbox) || sleeps_soon(&sandbox))
    }

    async fn record_use(&self, name: &str) {
        let Some(sandbox) = self.sandboxes.get(name) else {
            return;
        };
        let Some((users, last)) = lock(&self.activity.0)
            .get(name)
            .map(|entry| (entry.users, entry.last))
        else {
            return;
        };
        // What runs in the background matters only to a sandbox that may sleep.
        let may_sleep = deadlines::sleeps_at(&sandbox).is_some();
        let busy = users > 0 || (may_sleep && self.runs_something(&sandbox).await);
        let at = if busy { Timestamp::now() } else { last };
        // Until it answers, its start is a part of the trace that woke it.
        let status = sandbox.status.as_ref();
        let starting = status.filter(|status| !status.phase.answers());
        let trace = starting.and_then(|status| status.traceparent.clone());
        match self.sandboxes.record_activity(name, at, trace).await {
            Ok(_) if busy => {
                if let Some(entry) = lock(&self.activity.0).get_mut(name) {
                    entry.since = Instant::now();
                }
            }
            Ok(_) => self.forget_unused_since(name, last),
            Err(error) => tracing::warn!(sandbox = name, %error, "activity was not recorded"),
        }
    }

    /// Whether commands or what they left in the background still run.
    async fn runs_something(&self, sandbox: &Sandbox) -> bool {
        let Some(pod) = PodRef::ready(sandbox) else {
            return false;
        };
        let activity = self.agents.activity(&pod).await;
        activity.is_some_and(|activity| activity.running > 0 || activity.background > 0)
    }

    fn forget(&self, name: &str) {
        let mut entries = lock(&self.activity.0);
        if entries.get(name).is_some_and(|entry| entry.users == 0) {
            entries.remove(name);
        }
    }

    fn forget_unused_since(&self, name: &str, last: Timestamp) {
        let mut entries = lock(&self.activity.0);
        match entries.get_mut(name) {
            Some(entry) if entry.users > 0 || entry.last > last => entry.since = Instant::now(),
            _ => {
                entries.remove(name);
            }
        }
    }
}

/// How often this sandbox is written about at most: several times within its
/// idle time-out.
fn interval(sandbox: &Sandbox) -> Duration {
    let idle = sandbox.spec.lifecycle.idle_timeout.as_deref();
    match idle.and_then(deadlines::parse) {
        Some(idle) => EVERY.min(idle / 3),
        None => EVERY,
    }
}

/// Whether the sandbox would fall asleep before the next write.
fn sleeps_soon(sandbox: &Sandbox) -> bool {
    let near = Timestamp::now() + 2 * interval(sandbox);
    deadlines::sleeps_at(sandbox).is_some_and(|at| at <= near)
}
