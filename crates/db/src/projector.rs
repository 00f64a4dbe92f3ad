//! Keeps `projects.container_name` equal to the name of the running pod of a
//! project's sandbox, or empty if none runs.
//!
//! Only the leader writes, with one conditional UPDATE per change. No reconcile
//! waits for the projector, and a project that cannot be written delays no other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Database;
use super::decide::Step;
use super::report::{Outcome, Reported, report};
use super::schedule::{Job, Next, Schedule};
use hutch_api::Sandbox;
use hutch_core::interfaces::{DatabaseError, ProjectSandboxes};
use hutch_core::sync::Lock;

/// Time between two statements that read all rows, to find those that others changed.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// Time between two syncs of every project, even without a change.
const SYNC_ALL_EVERY: Duration = Duration::from_secs(300);
/// Time between two checks of the schedule for due projects.
const TICK: Duration = Duration::from_millis(250);
/// Projects that are synced at the same time.
const MAX_SYNCS: usize = 32;
/// Syncs that may use the database at the same time. Half of its connections stay
/// free for look-ups.
const MAX_DATABASE_SYNCS: usize = 4;
/// Attempts to write a row that others change at the same time.
const MAX_ATTEMPTS: usize = 4;

/// Writes `projects.container_name` for the sandboxes of one namespace.
pub struct Projector {
    database: Arc<Database>,
    cluster: Arc<dyn ProjectSandboxes>,
    writers: Semaphore,
    /// The last report to each sandbox, by UID.
    reported: Lock<HashMap<String, Reported>>,
}

/// The result of a finished task.
enum TaskResult {
    Synced(String, Next),
    /// The pod names in the database by project, or nothing after an error.
    Compared(Option<HashMap<String, String>>),
}

impl Projector {
    /// A projector from `cluster`'s sandboxes to `database`.
    pub fn new(database: Arc<Database>, cluster: Arc<dyn ProjectSandboxes>) -> Self {
        Self {
            database,
            cluster,
            writers: Semaphore::new(MAX_DATABASE_SYNCS),
            reported: Lock::default(),
        }
    }

    /// Syncs rows while this replica leads. Runs for ever.
    pub async fn run(&self) {
        let mut changes = self.cluster.changes();
        let mut states = self.database.circuit.changes();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut schedule = Schedule::default();
        let (mut next_compare, mut next_sync_all) = (None, None);
        let mut tasks = FuturesUnordered::<BoxFuture<'_, TaskResult>>::new();
        self.update(&mut schedule);
        loop {
            if self.cluster.may_write().is_none() {
                (next_compare, next_sync_all) = (None, None);
                schedule.forget();
                // Another leader now writes reports. They are in the status.
                self.reported.lock().clear();
            } else {
                if is_past(next_sync_all) {
                    next_sync_all = Some(Instant::now() + SYNC_ALL_EVERY);
                    schedule.make_all_due();
                }
                if is_past(next_compare) {
                    next_compare = Some(Instant::now() + COMPARE_EVERY);
                    tasks.push(self.compare().boxed());
                }
                let room = MAX_SYNCS.saturating_sub(tasks.len());
                for job in schedule.take(room) {
                    tasks.push(self.sync(job).boxed());
                }
            }
            tokio::select! {
                _ = changes.changed() => self.update(&mut schedule),
                // After a reconnect any row may have changed.
                _ = states.changed() => (next_compare, next_sync_all) = (None, None),
                Some(done) = tasks.next() => match done {
                    TaskResult::Synced(project, next) => schedule.done(&project, next),
                    TaskResult::Compared(Some(rows)) => schedule.compare(&rows),
                    TaskResult::Compared(None) => {}
                },
                _ = ticks.tick() => {}
            }
        }
    }

    fn update(&self, schedule: &mut Schedule) {
        let all = self.cluster.all();
        let uids: HashSet<_> = all
            .iter()
            .filter_map(|it| it.metadata.uid.as_ref())
            .collect();
        self.reported.lock().retain(|uid, _| uids.contains(uid));
        drop(uids);
        schedule.update(all);
    }

    /// Reads all rows. Nothing notifies Hutch when others write a row, and a row may
    /// still name a pod of a sandbox that was deleted while no replica led.
    async fn compare(&self) -> TaskResult {
        TaskResult::Compared(self.database.named().await.ok())
    }

    /// Syncs the row of one project and reports the result to its sandboxes.
    async fn sync(&self, job: Job) -> TaskResult {
        let outcome = {
            // The semaphore is never closed.
            let _permit = self.writers.acquire().await;
            self.sync_row(&job).await
        };
        let next = match &outcome {
            Outcome::Synced => Next::AfterChange,
            Outcome::Kept(_) => Next::Soon,
            // No sandbox is left to report to, and no row to clear.
            Outcome::Missing if job.sandboxes.is_empty() => Next::AfterChange,
            Outcome::Missing | Outcome::Failed(_) | Outcome::Later => Next::Retry,
        };
        let reported = self.report(&job, &outcome).await;
        let next = if reported { next } else { Next::Retry };
        TaskResult::Synced(job.project, next)
    }

    async fn sync_row(&self, job: &Job) -> Outcome {
        match self.try_sync_row(job).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        }
    }

    async fn try_sync_row(&self, job: &Job) -> Result<Outcome, DatabaseError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(present) = self.database.container(&job.project).await? else {
                return Ok(Outcome::Missing);
            };
            let seen = present.as_deref();
            // The pod has the name of its sandbox. Without the sandbox's status nothing says
            // that the pod does not run, so the row stays.
            if seen.is_some_and(|name| self.cluster.is_unreadable(name)) {
                return Ok(Outcome::Later);
            }
            let name = match job.decide(seen) {
                Step::Keep => return Ok(Outcome::Synced),
                Step::Write(name) => name,
                Step::UnlessAlive(other, name) => match self.cluster.pod_lives(&other).await {
                    Ok(true) => return Ok(Outcome::Kept(other)),
                    Ok(false) => name,
                    Err(error) => {
                        tracing::debug!(%error, "whether a pod lives could not be told");
                        return Ok(Outcome::Later);
                    }
                },
            };
            let Some(left) = self.cluster.may_write() else {
                return Ok(Outcome::Later);
            };
            let write = self.database.replace(&job.project, seen, name.as_deref());
            let Ok(written) = tokio::time::timeout(left, write).await else {
                return Ok(Outcome::Later);
            };
            if written? {
                return Ok(Outcome::Synced);
            }
        }
        let text = "the row keeps changing".to_owned();
        Err(DatabaseError::Busy(text))
    }

    /// Reports the outcome to the project's sandboxes. Returns false if a write
    /// failed.
    async fn report(&self, job: &Job, outcome: &Outcome) -> bool {
        let mut done = true;
        for sandbox in &job.sandboxes {
            done &= self.report_to(sandbox, &job.project, outcome).await;
        }
        if *outcome == Outcome::Synced || *outcome == Outcome::Missing {
            for sandbox in &job.released {
                done &= self.cluster.report(sandbox, None).await.is_ok();
            }
        }
        done
    }

    async fn report_to(&self, sandbox: &Sandbox, project: &str, outcome: &Outcome) -> bool {
        let uid = sandbox.metadata.uid.clone().unwrap_or_default();
        let before = self.reported.lock().get(&uid).cloned();
        let before = before.or_else(|| Reported::on(sandbox));
        let Some((news, now)) = report(sandbox, project, outcome, before.as_ref()) else {
            return true;
        };
        match self.cluster.report(sandbox, Some(&news)).await {
            Ok(()) => {
                let same = before.is_some_and(|before| before.reason() == now.reason());
                if let Some((reason, note)) = outcome.event().filter(|_| !same) {
                    self.cluster.warn(sandbox, reason, &note).await;
                }
                self.reported.lock().insert(uid, now);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the state of a project could not be told");
                false
            }
        }
    }
}

fn is_past(time: Option<Instant>) -> bool {
    time.is_none_or(|time| time <= Instant::now())
}
