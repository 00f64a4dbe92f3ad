//! Which projects are to be looked at, and when: one entry per project that has
//! a sandbox, or had one. Replicas that do not lead keep the entries, too, so
//! that the next leader knows of sandboxes that were deleted meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::decide::{Step, decide, pod, running};
use hutch_api::Sandbox;
use hutch_core::names;

/// First and longest wait after something failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often a pod that somebody else named is looked at.
const WATCHED: Duration = Duration::from_secs(3);
/// How long a project without sandboxes is remembered while this replica does
/// not lead: whoever leads has long dealt with it then.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// One project, as it is to be brought in line.
#[derive(Clone)]
pub struct Job {
    /// Its id.
    pub project: String,
    /// Its sandboxes, the oldest first.
    pub sandboxes: Vec<Arc<Sandbox>>,
    /// Sandboxes that work for no project any more, and for this one last.
    pub released: Vec<Arc<Sandbox>>,
    /// Pods that only we can have named in its row.
    pub ours: BTreeSet<String>,
}

impl Job {
    /// Whether nothing is to be done about a row that names `pod`.
    fn agrees(&self, pod: Option<&String>) -> bool {
        let running: Vec<_> = self.sandboxes.iter().filter_map(|it| running(it)).collect();
        let any = !self.sandboxes.is_empty();
        decide(pod.map(String::as_str), &running, &self.ours, any) == Step::Keep
    }
}

/// What is to be done after a look at a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Rest,
    /// Look again soon: what its row names is not in our caches.
    Watch,
    /// Try again.
    Retry,
}

/// All projects that are known.
#[derive(Default)]
pub struct Due(HashMap<String, Entry>);

struct Entry {
    job: Job,
    /// What the last look was, or is, for.
    seen: Option<Vec<Mark>>,
    due: Option<Instant>,
    busy: bool,
    failures: u32,
    /// Since when there has been no sandbox.
    alone: Instant,
}

/// What of a sandbox leads to a look when it changes.
#[derive(PartialEq, Eq)]
struct Mark {
    uid: Option<String>,
    generation: Option<i64>,
    running: Option<String>,
}

impl Mark {
    fn of(sandbox: &Arc<Sandbox>) -> Self {
        Self {
            uid: sandbox.metadata.uid.clone(),
            generation: sandbox.metadata.generation,
            running: running(sandbox),
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
            seen: None,
            due: None,
            busy: false,
            failures: 0,
            alone: Instant::now(),
        }
    }
}

impl Due {
    /// Takes in the sandboxes as they are now: projects whose sandboxes changed
    /// are due.
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
            let told = sandbox
                .status
                .as_ref()
                .and_then(|it| it.project_id.as_deref());
            if let Some(id) = project {
                let job = &mut self.entry(id).job;
                job.ours.extend(pod(sandbox));
                job.sandboxes.push(sandbox.clone());
            }
            if let Some(former) = told.filter(|told| project != Some(told)) {
                let job = &mut self.entry(former).job;
                job.ours.extend(pod(sandbox));
                if project.is_none() {
                    job.released.push(sandbox.clone());
                }
            }
        }
        for entry in self.0.values_mut() {
            entry.compare();
        }
    }

    /// All projects are due now.
    pub fn all(&mut self) {
        for entry in self.0.values_mut() {
            entry.due = Some(Instant::now());
        }
    }

    /// The rows that name a pod, by project. Due is a project whose row says
    /// something else than its sandboxes do, and one without a sandbox whose row has
    /// a name that only we can have given.
    pub fn compare(&mut self, rows: &HashMap<String, String>) {
        for (project, pod) in rows {
            if !self.0.contains_key(project) && names::project(project) == *pod {
                self.entry(project).compare();
            }
        }
        for (project, entry) in &mut self.0 {
            let waits = entry.busy || entry.due.is_some();
            if !waits && !entry.job.agrees(rows.get(project)) {
                entry.due = Some(Instant::now());
            }
        }
    }

    /// Up to `room` projects whose time has come; they are busy until
    /// [`Due::done`].
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

    /// A project was looked at.
    pub fn done(&mut self, project: &str, next: Next) {
        let Some(entry) = self.0.get_mut(project) else {
            return;
        };
        entry.busy = false;
        let wait = match next {
            Next::Rest => None,
            Next::Watch => Some(WATCHED),
            Next::Retry => {
                let wait = RETRY.0.saturating_mul(1 << entry.failures.min(8));
                entry.failures += 1;
                Some(wait.min(RETRY.1))
            }
        };
        if next != Next::Retry {
            entry.failures = 0;
        }
        // What changed meanwhile is due already.
        let later = wait.map(|wait| Instant::now() + wait);
        entry.due = entry.due.or(later);
        if entry.due.is_some() {
            return;
        }
        if entry.job.sandboxes.is_empty() {
            self.0.remove(project);
        } else {
            // The row names none of the former pods any more: where it does
            // again, somebody else did it.
            let derived = names::project(project);
            let present: BTreeSet<_> = entry
                .job
                .sandboxes
                .iter()
                .filter_map(|it| pod(it))
                .collect();
            let ours = &mut entry.job.ours;
            ours.retain(|name| *name == derived || present.contains(name));
        }
    }

    /// Forgets projects that have long had no sandbox, while others lead.
    pub fn forget(&mut self) {
        self.0.retain(|_, entry| {
            entry.busy || !entry.job.sandboxes.is_empty() || entry.alone.elapsed() < REMEMBERED
        });
    }

    fn entry(&mut self, project: &str) -> &mut Entry {
        self.0
            .entry(project.to_owned())
            .or_insert_with(|| Entry::new(project))
    }
}

impl Entry {
    fn compare(&mut self) {
        if !self.job.sandboxes.is_empty() {
            self.alone = Instant::now();
        }
        let now: Vec<_> = self.job.sandboxes.iter().map(Mark::of).collect();
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            self.due = Some(Instant::now());
            self.failures = 0;
        }
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
