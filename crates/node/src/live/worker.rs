//! The worker of one sandbox's buckets. It looks at the state after each change and after a
//! time, starts the missing steps, reports changes, and ends when the pod and its mounts
//! are gone.

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
use super::attempt::MountAttempt;
use super::id::{MountId, ObjectKey};
use super::report::Reported;
use crate::Error;
use crate::container::Container;
use hutch_core::buckets;

/// Wait before the next look while something is unfinished, such as a busy mount.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Wait before a failed status write is repeated.
const STATUS_RETRY: Duration = Duration::from_millis(200);
/// Longest time between two looks. It covers changes that no watch reports.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// How long after the end of its grace period a pod's mounts are aborted, even if they are in
/// use. A process that waits for a hung S3 service cannot be killed and would block the pod.
const ABORT_DELAY: Duration = Duration::from_secs(5);

/// The result of a task.
pub(super) enum TaskResult {
    /// An attempt to mount a bucket.
    Attempted(String, MountAttempt),
    /// A check of a mounted bucket's Secret: reason and text if its credentials are not used.
    Rekeyed(String, Option<(String, String)>),
    /// An attempt to unmount.
    Closed(MountId, Result<(), Error>),
}

/// The worker of one sandbox.
pub struct Worker {
    pub(super) live: Live,
    pub(super) key: ObjectKey,
    wake: Arc<Notify>,
    /// The attempts for the buckets of the spec, by name of the bucket.
    pub(super) attempts: HashMap<String, MountAttempt>,
    pub(super) reported: Reported,
    /// Unwanted mounts that are in use, with the time of the next try to unmount.
    pub(super) busy: HashMap<MountId, (Error, Instant)>,
    /// Mounts that are being unmounted.
    pub(super) closing: HashSet<MountId>,
    /// The container and its ID, after it was found.
    pub(super) container: Option<(String, Container)>,
    /// ID of the last container that ran.
    pub(super) last_container: Option<String>,
    tasks: JoinSet<TaskResult>,
    /// The running tasks by mount ID.
    running_tasks: HashMap<String, AbortHandle>,
    /// The time since when the pod is gone.
    gone_since: Option<Instant>,
}

/// The stage of the pod's life.
enum PodStage {
    /// The pod does not exist or has ended.
    Gone,
    /// The pod is being deleted. Its mounts stay for this time.
    Ending(Duration),
    /// Its container does not run.
    Waiting,
    /// The container with this ID runs.
    Running(String),
}

impl Worker {
    pub fn new(live: Live, key: ObjectKey, wake: Arc<Notify>) -> Self {
        Self {
            live,
            key,
            wake,
            attempts: HashMap::new(),
            reported: Reported::default(),
            busy: HashMap::new(),
            closing: HashSet::new(),
            container: None,
            last_container: None,
            tasks: JoinSet::new(),
            running_tasks: HashMap::new(),
            gone_since: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            let wait = self.step().await;
            if wait.is_none() && self.live.retire(&self.key) {
                return;
            }
            let wait = tokio::time::sleep(wait.unwrap_or(RETRY_INTERVAL));
            tokio::select! {
                () = self.wake.notified() => {}
                () = wait => {}
                Some(result) = self.tasks.join_next() => self.finish(result),
            }
        }
    }

    /// Starts a task for a mount, unless one is running for it.
    pub(super) fn start(
        &mut self,
        id: String,
        task: impl Future<Output = TaskResult> + Send + 'static,
    ) {
        if !self.running_tasks.contains_key(&id) {
            let handle = self.tasks.spawn(task);
            self.running_tasks.insert(id, handle);
        }
    }

    /// Aborts the running task of a mount. The task's work may remain half done.
    pub(super) fn cancel(&mut self, id: &str) {
        if let Some(task) = self.running_tasks.remove(id) {
            task.abort();
            self.closing.retain(|closing| closing.to_string() != id);
        }
    }

    fn finish(&mut self, result: Result<TaskResult, tokio::task::JoinError>) {
        self.running_tasks.retain(|_, task| !task.is_finished());
        match result {
            Ok(TaskResult::Attempted(bucket, attempt)) => {
                let same = |now: &&mut MountAttempt| now.is_for(&attempt);
                if let Some(now) = self.attempts.get_mut(&bucket).filter(same) {
                    *now = attempt;
                }
            }
            Ok(TaskResult::Rekeyed(bucket, failure)) => {
                if let Some(now) = self.attempts.get_mut(&bucket) {
                    now.rekey_failure = failure;
                }
            }
            Ok(TaskResult::Closed(id, closed)) => {
                self.closing.remove(&id);
                match closed {
                    Ok(()) => drop(self.busy.remove(&id)),
                    Err(error) => {
                        let next = Instant::now() + RETRY_INTERVAL;
                        drop(self.busy.insert(id, (error, next)));
                    }
                }
            }
            // The task was cancelled.
            Err(_) => {}
        }
    }

    /// Starts the steps that are due. Returns the time until the next look, or `None` if the
    /// worker may end.
    async fn step(&mut self) -> Option<Duration> {
        let pod = self
            .live
            .0
            .caches
            .pods
            .get(&self.key.namespace, &self.key.name);
        if pod.is_some() {
            self.gone_since = None;
        }
        match stage(pod.as_deref()) {
            PodStage::Gone => self.close_all(pod.is_none()).await,
            PodStage::Ending(left) if left.is_zero() => {
                self.abort_all().await;
                Some(RETRY_INTERVAL)
            }
            PodStage::Ending(left) => {
                self.reset();
                Some(left)
            }
            PodStage::Waiting => match pod {
                Some(pod) => Some(self.report_refusals(&pod).await),
                None => None,
            },
            PodStage::Running(container) => match pod {
                Some(pod) => {
                    self.last_container = Some(container.clone());
                    Some(self.align(&pod, &container).await)
                }
                None => None,
            },
        }
    }

    /// Unmounts everything after the pod has ended. `deleted` is true if the pod object is
    /// gone as well. Then the worker may end.
    async fn close_all(&mut self, deleted: bool) -> Option<Duration> {
        self.reset();
        let since = *self.gone_since.get_or_insert_with(Instant::now);
        let ids = self.live.mounted(&self.key);
        if ids.is_empty() {
            let settled = self.clear_report().await || since.elapsed() > ABORT_DELAY;
            return match (settled, deleted) {
                (true, true) => None,
                (true, false) => Some(IDLE_INTERVAL),
                (false, _) => Some(STATUS_RETRY),
            };
        }
        if since.elapsed() > ABORT_DELAY * 2 {
            self.abort_all().await;
            return Some(Duration::ZERO);
        }
        let closed = ids.iter().map(|id| self.live.close(id));
        let all = join_all(closed)
            .await
            .into_iter()
            .all(|closed| closed.is_ok());
        Some(if all { Duration::ZERO } else { RETRY_INTERVAL })
    }

    /// Cancels all tasks and drops the state of the container.
    fn reset(&mut self) {
        self.tasks.abort_all();
        self.running_tasks.clear();
        self.attempts.clear();
        self.busy.clear();
        self.closing.clear();
        self.container = None;
    }

    /// Ends all mounts at once, even those in use.
    async fn abort_all(&mut self) {
        self.reset();
        for id in self.live.mounted(&self.key) {
            tracing::warn!(%id, "ended a mount that keeps its pod from ending");
            self.live.0.mounts.abort(&id.to_string()).await;
        }
    }
}

fn stage(pod: Option<&Pod>) -> PodStage {
    let Some(pod) = pod else {
        return PodStage::Gone;
    };
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return PodStage::Gone;
    }
    if let Some(time) = &pod.metadata.deletion_timestamp {
        let late = Timestamp::now().duration_since(time.0);
        let late = Duration::try_from(late).unwrap_or_default();
        let early = time.0.duration_since(Timestamp::now());
        let early = Duration::try_from(early).unwrap_or_default();
        return PodStage::Ending((early + ABORT_DELAY).saturating_sub(late));
    }
    match buckets::container_id(pod) {
        Some(id) => PodStage::Running(id.to_owned()),
        None => PodStage::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_pod_that_ends_keeps_its_mounts_for_the_grace_period_and_the_delay() {
        let mut pod = Pod::default();
        assert!(matches!(stage(Some(&pod)), PodStage::Waiting));
        assert!(matches!(stage(None), PodStage::Gone));
        let mut left = |seconds: i64| {
            let at = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            pod.metadata.deletion_timestamp = Some(Time(at));
            match stage(Some(&pod)) {
                PodStage::Ending(left) => left.as_secs_f64().round(),
                _ => f64::NAN,
            }
        };
        assert_eq!((left(7), left(-3), left(-60)), (12.0, 2.0, 0.0));
    }
}
