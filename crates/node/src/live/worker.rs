//! One sandbox's buckets. A worker looks at what there is when something changes
//! or a time has come, does what is missing, says what has changed, and ends when
//! the pod and its mounts are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::Live;
use super::attempt::Try;
use super::id::{Key, MountId};
use super::report::Written;
use crate::Error;
use crate::container::Container;
use hutch_core::buckets;

/// How soon a busy mount is tried again.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// How soon a status is written again that has changed meanwhile.
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is looked at what nobody tells of.
pub(super) const IDLE: Duration = Duration::from_secs(10);
/// So long after its time a pod's mounts are ended whatever uses them: a process
/// that waits for a hung S3 service cannot be killed.
const LATE: Duration = Duration::from_secs(5);

/// What a task has come to.
pub(super) enum Done {
    /// An attempt to mount a bucket.
    Tried(String, Try),
    /// A look at a mounted bucket's Secret, and why its keys are not used.
    Rekeyed(String, Option<(String, String)>),
    /// An attempt to unmount.
    Closed(MountId, Result<(), Error>),
}

/// The worker of one sandbox.
pub struct Worker {
    pub(super) live: Live,
    pub(super) key: Key,
    wake: Arc<Notify>,
    /// What was tried of the buckets of the spec.
    pub(super) tries: HashMap<String, Try>,
    pub(super) written: Written,
    /// Mounts that are in use though nobody wants them, and when they are tried
    /// again.
    pub(super) busy: HashMap<MountId, (Error, Instant)>,
    /// Mounts that are being unmounted.
    pub(super) closing: HashSet<MountId>,
    /// The container, once it was found.
    pub(super) inside: Option<(String, Container)>,
    /// Id of the last container that was seen to run.
    pub(super) last: Option<String>,
    /// What is under way, by the mount's id.
    tasks: JoinSet<Done>,
    under_way: HashMap<String, AbortHandle>,
    /// Since when there has been no pod.
    alone: Option<Instant>,
}

/// Where the pod is in its life.
enum Stage {
    Gone,
    /// It is being deleted; for so long its mounts are left alone.
    Ending(Duration),
    /// Its container does not run.
    Waiting,
    Running(String),
}

impl Worker {
    pub fn new(live: Live, key: Key, wake: Arc<Notify>) -> Self {
        Self {
            live,
            key,
            wake,
            tries: HashMap::new(),
            written: Written::default(),
            busy: HashMap::new(),
            closing: HashSet::new(),
            inside: None,
            last: None,
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            alone: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            let wait = self.step().await;
            if wait.is_none() && self.live.retire(&self.key) {
                return;
            }
            let wait = tokio::time::sleep(wait.unwrap_or(SOON));
            tokio::select! {
                () = self.wake.notified() => {}
                () = wait => {}
                Some(done) = self.tasks.join_next() => self.finish(done),
            }
        }
    }

    /// Has something done to a mount, unless something is under way with it.
    pub(super) fn begin(&mut self, id: String, task: impl Future<Output = Done> + Send + 'static) {
        if !self.under_way.contains_key(&id) {
            let handle = self.tasks.spawn(task);
            self.under_way.insert(id, handle);
        }
    }

    /// Ends what is under way with a mount, half done as it is.
    pub(super) fn give_up(&mut self, id: &str) {
        if let Some(task) = self.under_way.remove(id) {
            task.abort();
            self.closing.retain(|closing| closing.to_string() != id);
        }
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        self.under_way.retain(|_, task| !task.is_finished());
        match done {
            Ok(Done::Tried(bucket, tried)) => {
                let same =
                    |now: &&mut Try| now.digest == tried.digest && now.container == tried.container;
                if let Some(now) = self.tries.get_mut(&bucket).filter(same) {
                    *now = tried;
                }
            }
            Ok(Done::Rekeyed(bucket, stale)) => {
                if let Some(now) = self.tries.get_mut(&bucket) {
                    now.stale = stale;
                }
            }
            Ok(Done::Closed(id, closed)) => {
                self.closing.remove(&id);
                match closed {
                    Ok(()) => drop(self.busy.remove(&id)),
                    Err(error) => drop(self.busy.insert(id, (error, Instant::now() + SOON))),
                }
            }
            // It was given up.
            Err(_) => {}
        }
    }

    /// Does what is to be done now; returns when to look again, or nothing where
    /// there may be nothing left.
    async fn step(&mut self) -> Option<Duration> {
        let pod = self
            .live
            .0
            .caches
            .pods
            .get(&self.key.namespace, &self.key.name);
        if pod.is_some() {
            self.alone = None;
        }
        match stage(pod.as_deref()) {
            Stage::Gone => self.close_all(pod.is_none()).await,
            Stage::Ending(left) if left.is_zero() => {
                self.abort_all().await;
                Some(SOON)
            }
            Stage::Ending(left) => {
                self.forget();
                Some(left)
            }
            Stage::Waiting => match pod {
                Some(pod) => Some(self.tell_of_refusals(&pod).await),
                None => None,
            },
            Stage::Running(container) => match pod {
                Some(pod) => {
                    self.last = Some(container.clone());
                    Some(self.align(&pod, &container).await)
                }
                None => None,
            },
        }
    }

    async fn close_all(&mut self, gone: bool) -> Option<Duration> {
        self.forget();
        let since = *self.alone.get_or_insert_with(Instant::now);
        let ids = self.live.mounted(&self.key);
        if ids.is_empty() {
            let settled = self.say_nothing_more().await || since.elapsed() > LATE;
            return match (settled, gone) {
                (true, true) => None,
                (true, false) => Some(IDLE),
                (false, _) => Some(AGAIN),
            };
        }
        if since.elapsed() > LATE * 2 {
            self.abort_all().await;
            return Some(Duration::ZERO);
        }
        let closed = ids.iter().map(|id| self.live.close(id));
        let all = join_all(closed)
            .await
            .into_iter()
            .all(|closed| closed.is_ok());
        Some(if all { Duration::ZERO } else { SOON })
    }

    /// Gives up everything that is under way.
    fn forget(&mut self) {
        self.tasks.abort_all();
        self.under_way.clear();
        self.tries.clear();
        self.busy.clear();
        self.closing.clear();
        self.inside = None;
    }

    async fn abort_all(&mut self) {
        self.forget();
        for id in self.live.mounted(&self.key) {
            tracing::warn!(%id, "ended a mount that keeps its pod from ending");
            self.live.0.mounts.abort(&id.to_string()).await;
        }
    }
}

/// Where the pod is now.
fn stage(pod: Option<&Pod>) -> Stage {
    let Some(pod) = pod else { return Stage::Gone };
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Stage::Gone;
    }
    if let Some(time) = &pod.metadata.deletion_timestamp {
        let late = Timestamp::now().duration_since(time.0);
        let late = Duration::try_from(late).unwrap_or_default();
        let early = time.0.duration_since(Timestamp::now());
        let early = Duration::try_from(early).unwrap_or_default();
        return Stage::Ending((early + LATE).saturating_sub(late));
    }
    match buckets::container_id(pod) {
        Some(id) => Stage::Running(id.to_owned()),
        None => Stage::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_pod_that_ends_has_its_time_and_a_little_more() {
        let mut pod = Pod::default();
        assert!(matches!(stage(Some(&pod)), Stage::Waiting));
        assert!(matches!(stage(None), Stage::Gone));
        let mut left = |seconds: i64| {
            let at = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            pod.metadata.deletion_timestamp = Some(Time(at));
            match stage(Some(&pod)) {
                Stage::Ending(left) => left.as_secs_f64().round(),
                _ => f64::NAN,
            }
        };
        assert_eq!((left(7), left(-3), left(-60)), (12.0, 2.0, 0.0));
    }
}
