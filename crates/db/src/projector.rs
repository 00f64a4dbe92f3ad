//! Keeps `projects.container_name` true: it names the running pod of a project's
//! sandbox, or nothing. Only on the replica that leads; by one conditional
//! statement per change; and never in anybody's way: no reconcile waits for it,
//! and one project that cannot be written stops no other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Database;
use super::decide::{Step, decide, running};
use super::due::{Due, Job, Next};
use super::report::{Outcome, Told, report};
use hutch_api::Sandbox;
use hutch_core::interfaces::{DatabaseError, ProjectSandboxes};

/// How often all rows are read at once, to find those that others changed, and how
/// often each is looked at whatever they say.
const COMPARE: Duration = Duration::from_secs(5);
const EACH: Duration = Duration::from_secs(300);
/// How often it is looked whose time has come.
const TICK: Duration = Duration::from_millis(250);
/// Projects that are being looked at, and those of them that are in the
/// database: half of its connections stay free for look-ups.
const AT_ONCE: (usize, usize) = (32, 4);
/// How often a row that changes under our hands is looked at again.
const ATTEMPTS: usize = 4;

/// Keeps the rows in line with the sandboxes.
pub struct Projector {
    database: Arc<Database>,
    cluster: Arc<dyn ProjectSandboxes>,
    writers: Semaphore,
    /// What was last told on each sandbox, by UID.
    told: Mutex<HashMap<String, Told>>,
}

/// Something that was under way has ended.
enum Done {
    Project(String, Next),
    Compared(Option<HashMap<String, String>>),
}

impl Projector {
    /// Between this database and these sandboxes.
    pub fn new(database: Arc<Database>, cluster: Arc<dyn ProjectSandboxes>) -> Self {
        Self {
            database,
            cluster,
            writers: Semaphore::new(AT_ONCE.1),
            told: Mutex::default(),
        }
    }

    /// Works for as long as it is polled, whenever this replica leads.
    pub async fn run(&self) {
        let mut changes = self.cluster.changes();
        let mut states = self.database.circuit.changes();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Due::default();
        let (mut compare, mut each) = (None, None);
        let mut works = FuturesUnordered::<BoxFuture<'_, Done>>::new();
        self.look(&mut due);
        loop {
            if self.cluster.may_write().is_none() {
                (compare, each) = (None, None);
                due.forget();
                // What another leader tells meanwhile is in the status.
                self.told().clear();
            } else {
                if past(each) {
                    each = Some(Instant::now() + EACH);
                    due.all();
                }
                if past(compare) {
                    compare = Some(Instant::now() + COMPARE);
                    works.push(self.compare().boxed());
                }
                let room = AT_ONCE.0.saturating_sub(works.len());
                for job in due.take(room) {
                    works.push(self.bring(job).boxed());
                }
            }
            tokio::select! {
                _ = changes.changed() => self.look(&mut due),
                // Connected again: nothing is known of what happened meanwhile.
                _ = states.changed() => (compare, each) = (None, None),
                Some(done) = works.next() => match done {
                    Done::Project(project, next) => due.done(&project, next),
                    Done::Compared(Some(rows)) => due.compare(&rows),
                    Done::Compared(None) => {}
                },
                _ = ticks.tick() => {}
            }
        }
    }

    fn look(&self, due: &mut Due) {
        let all = self.cluster.all();
        let uids: HashSet<_> = all
            .iter()
            .filter_map(|it| it.metadata.uid.as_ref())
            .collect();
        self.told().retain(|uid, _| uids.contains(uid));
        drop(uids);
        due.update(all);
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others wrote is told by nobody; and rows of projects without a sandbox may
    /// still name one of ours that was deleted while nobody led.
    async fn compare(&self) -> Done {
        Done::Compared(self.database.named().await.ok())
    }

    /// Brings the row of one project in line and tells its sandboxes.
    async fn bring(&self, job: Job) -> Done {
        let outcome = {
            // Never closed.
            let _permit = self.writers.acquire().await;
            self.settle(&job).await
        };
        let next = match &outcome {
            Outcome::Synced => Next::Rest,
            Outcome::Kept(_) => Next::Watch,
            // Nobody is left to be told, and nothing of ours is there.
            Outcome::Missing if job.sandboxes.is_empty() => Next::Rest,
            Outcome::Missing | Outcome::Failed(_) | Outcome::Later => Next::Retry,
        };
        let told = self.tell(&job, &outcome).await;
        let next = if told { next } else { Next::Retry };
        Done::Project(job.project, next)
    }

    async fn settle(&self, job: &Job) -> Outcome {
        match self.try_to_settle(job).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        }
    }

    async fn try_to_settle(&self, job: &Job) -> Result<Outcome, DatabaseError> {
        let running: Vec<_> = job.sandboxes.iter().filter_map(|it| running(it)).collect();
        for _ in 0..ATTEMPTS {
            let Some(present) = self.database.container(&job.project).await? else {
                return Ok(Outcome::Missing);
            };
            let seen = present.as_deref();
            let name = match decide(seen, &running, &job.ours, !job.sandboxes.is_empty()) {
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

    /// Tells the project's sandboxes what there is to tell; whether that could be
    /// done.
    async fn tell(&self, job: &Job, outcome: &Outcome) -> bool {
        let mut done = true;
        for sandbox in &job.sandboxes {
            done &= self.tell_one(sandbox, &job.project, outcome).await;
        }
        if *outcome == Outcome::Synced || *outcome == Outcome::Missing {
            for sandbox in &job.released {
                done &= self.cluster.report(sandbox, None).await.is_ok();
            }
        }
        done
    }

    async fn tell_one(&self, sandbox: &Sandbox, project: &str, outcome: &Outcome) -> bool {
        let uid = sandbox.metadata.uid.clone().unwrap_or_default();
        let before = self.told().get(&uid).cloned();
        let before = before.or_else(|| Told::on(sandbox));
        let Some((news, now)) = report(sandbox, project, outcome, before.as_ref()) else {
            return true;
        };
        match self.cluster.report(sandbox, Some(&news)).await {
            Ok(()) => {
                let same = before.is_some_and(|before| before.reason() == now.reason());
                if let Some(note) = outcome.note().filter(|_| !same) {
                    self.cluster.warn(sandbox, now.reason(), &note).await;
                }
                self.told().insert(uid, now);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the state of a project could not be told");
                false
            }
        }
    }
}

fn past(time: Option<Instant>) -> bool {
    time.is_none_or(|time| time <= Instant::now())
}
