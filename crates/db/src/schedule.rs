//! The work queue of the projector: one entry per project that has or had a
//! sandbox, with the time of its next sync. Replicas that do not lead also keep
//! the entries. So the next leader knows which sandboxes were deleted before it
//! took over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::decide::{Step, decide, pod_name, running_pod};
use hutch_api::Sandbox;
use hutch_core::backoff::Backoff;
use hutch_core::names;

const MAX_RETRY_WAIT: Duration = Duration::from_secs(5);
/// Waits after failed syncs of a project.
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), MAX_RETRY_WAIT);
/// Time between two checks of a row that names a pod of somebody else.
const CHECK_FOREIGN_POD_EVERY: Duration = Duration::from_secs(3);
/// A replica that does not lead forgets a project after this time without a
/// sandbox. The leader has synced the row long before.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// A project whose row has to be synced.
#[derive(Clone)]
pub struct Job {
    /// `projects.id`.
    pub project: String,
    /// The project's sandboxes, the oldest first.
    pub sandboxes: Vec<Arc<Sandbox>>,
    /// Sandboxes that have no project now and had this one last.
    pub released: Vec<Arc<Sandbox>>,
    /// Pod names that only Hutch can have written into the row.
    pub ours: BTreeSet<String>,
}

impl Job {
    /// The decision about the row if it names `present`.
    pub fn decide(&self, present: Option<&str>) -> Step {
        let sandboxes = self.sandboxes.iter();
        let running: Vec<_> = sandboxes.filter_map(|it| running_pod(it)).collect();
        decide(present, &running, &self.ours, !self.sandboxes.is_empty())
    }
}

/// When a project is due again after a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After a change, and not before.
    AfterChange,
    /// Soon, because the row names a pod that is not in our caches: nothing reports its end.
    Soon,
    /// After a wait that grows with every failure.
    Retry,
}

/// All known projects.
#[derive(Default)]
pub struct Schedule(HashMap<String, Entry>);

struct Entry {
    job: Job,
    /// The sandboxes when they last made the project due.
    last: Option<Vec<Snapshot>>,
    due: Option<Instant>,
    /// True while a sync is in progress.
    busy: bool,
    failures: u32,
    /// The last time when the project had a sandbox.
    last_sandbox: Instant,
}

/// The properties of a sandbox whose change makes its project due.
#[derive(PartialEq, Eq)]
struct Snapshot {
    uid: Option<String>,
    generation: Option<i64>,
    running: Option<String>,
}

impl Snapshot {
    fn of(sandbox: &Arc<Sandbox>) -> Self {
        Self {
            uid: sandbox.metadata.uid.clone(),
            generation: sandbox.metadata.generation,
            running: running_pod(sandbox),
        }
    }
}

impl Entry {
    fn new(project: &str) -> Self {
        Self {
            job: Job {
                project: project.to_owned(),
                sandboxes: Vec::new(),
                released: Vec::new(),
                ours: [names::project(project)].into(),
            },
            last: None,
            due: None,
            busy: false,
            failures: 0,
            last_sandbox: Instant::now(),
        }
    }
}

impl Schedule {
    /// Replaces the known sandboxes by `all`. Projects whose sandboxes changed
    /// become due.
    pub fn update(&mut self, mut all: Vec<Arc<Sandbox>>) {
        for entry in self.0.values_mut() {
            entry.job.sandboxes.clear();
            entry.job.released.clear();
        }
        all.sort_by_cached_key(|it| {
            let made = it.metadata.creation_timestamp.as_ref().map(|at| at.0);
            (made, it.metadata.name.clone())
        });
        for sandbox in &all {
            let project = sandbox.spec.project.as_ref().map(|it| it.id.as_str());
            let status = sandbox.status.as_ref();
            let reported = status.and_then(|it| it.project_id.as_deref());
            if let Some(id) = project {
                let job = &mut self.entry(id).job;
                job.ours.extend(pod_name(sandbox));
                job.sandboxes.push(sandbox.clone());
            }
            if let Some(former) = reported.filter(|reported| project != Some(reported)) {
                let job = &mut self.entry(former).job;
                job.ours.extend(pod_name(sandbox));
                if project.is_none() {
                    job.released.push(sandbox.clone());
                }
            }
        }
        for entry in self.0.values_mut() {
            entry.refresh();
        }
    }

    /// Makes all projects due now.
    pub fn make_all_due(&mut self) {
        for entry in self.0.values_mut() {
            entry.due = Some(Instant::now());
        }
    }

    /// Compares with `rows`, the pod names in the database by project. A project
    /// becomes due if its row does not fit its sandboxes. A project without a
    /// sandbox becomes due if only Hutch can have written the name in its row.
    pub fn compare(&mut self, rows: &HashMap<String, String>) {
        for (project, pod) in rows {
            if !self.0.contains_key(project) && names::project(project) == *pod {
                self.entry(project).refresh();
            }
        }
        for (project, entry) in &mut self.0 {
            let waits = entry.busy || entry.due.is_some();
            let present = rows.get(project).map(String::as_str);
            if !waits && entry.job.decide(present) != Step::Keep {
                entry.due = Some(Instant::now());
            }
        }
    }

    /// Takes up to `room` due projects. Each is busy until [`Schedule::done`].
    pub fn take(&mut self, room: usize) -> Vec<Job> {
        let now = Instant::now();
        let due = self.0.values_mut();
        due.filter(|entry| !entry.busy && entry.due.is_some_and(|due| due <= now))
            .take(room)
            .map(|entry| {
                entry.busy = true;
                entry.due = None;
                entry.job.clone()
            })
            .collect()
    }

    /// Ends the sync of a project and plans the next one.
    pub fn done(&mut self, project: &str, next: Next) {
        let Some(entry) = self.0.get_mut(project) else {
            return;
        };
        entry.busy = false;
        let wait = match next {
            Next::AfterChange => None,
            Next::Soon => Some(CHECK_FOREIGN_POD_EVERY),
            Next::Retry => {
                entry.failures += 1;
                Some(RETRY.after(entry.failures))
            }
        };
        if next != Next::Retry {
            entry.failures = 0;
        }
        // A change during the sync has made the project due already.
        let later = wait.map(|wait| Instant::now() + wait);
        entry.due = entry.due.or(later);
        if entry.due.is_some() {
            return;
        }
        if entry.job.sandboxes.is_empty() {
            self.0.remove(project);
        } else {
            // The row names no former pod now. If it does later, somebody else
            // wrote that name.
            let derived = names::project(project);
            let sandboxes = entry.job.sandboxes.iter();
            let present: BTreeSet<_> = sandboxes.filter_map(|it| pod_name(it)).collect();
            let ours = &mut entry.job.ours;
            ours.retain(|name| *name == derived || present.contains(name));
        }
    }

    /// Forgets projects that have had no sandbox for [`FORGET_AFTER`]. Only for
    /// replicas that do not lead.
    pub fn forget(&mut self) {
        self.0.retain(|_, entry| {
            entry.busy
                || !entry.job.sandboxes.is_empty()
                || entry.last_sandbox.elapsed() < FORGET_AFTER
        });
    }

    fn entry(&mut self, project: &str) -> &mut Entry {
        self.0
            .entry(project.to_owned())
            .or_insert_with(|| Entry::new(project))
    }
}

impl Entry {
    /// Makes the project due if its sandboxes changed.
    fn refresh(&mut self) {
        if !self.job.sandboxes.is_empty() {
            self.last_sandbox = Instant::now();
        }
        let now: Vec<_> = self.job.sandboxes.iter().map(Snapshot::of).collect();
        if self.last.as_ref() != Some(&now) {
            self.last = Some(now);
            self.due = Some(Instant::now());
            self.failures = 0;
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
