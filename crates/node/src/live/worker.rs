//! The worker of one sandbox's buckets. It looks at the state after each change and after a
//! time, starts the missing steps, reports changes, and ends when the pod and its mounts
//! are gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Live;
use super::attempt::MountAttempt;
use super::id::{MountId, ObjectKey};
use super::mount::Failure;
use super::report::{Cleared, Reporter};
use super::tasks::{Finished, Purpose, TaskResult, Tasks};
use crate::Error;
use crate::container::Container;
use hutch_core::reasons::Reason;
use hutch_core::{buckets, objects};

/// Wait before the next look while something is unfinished, such as a busy mount.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Wait before a failed status write is repeated.
const STATUS_RETRY: Duration = Duration::from_millis(200);
/// Longest time between two looks. It covers changes that no watch reports.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// Time from the end of a pod's grace period until its mounts are aborted, even if they are in
/// use. A process that waits for a hung S3 service cannot be killed and would block the pod.
const ABORT_DELAY: Duration = Duration::from_secs(5);

/// The worker of one sandbox.
pub struct Worker {
    pub(super) live: Live,
    pub(super) key: ObjectKey,
    wake: Arc<Notify>,
    /// The attempts for the buckets of the spec, by name of the bucket.
    pub(super) attempts: HashMap<String, MountAttempt>,
    pub(super) tasks: Tasks,
    /// Unwanted mounts that are in use.
    pub(super) busy: HashMap<MountId, BusyMount>,
    /// The container and its ID, after it was found.
    pub(super) container: Option<(String, Container)>,
    pub(super) reporter: Reporter,
    /// The time since when the pod is gone.
    gone_since: Option<Instant>,
}

/// A mount that could not be unmounted.
pub(super) struct BusyMount {
    pub error: Error,
    /// The time of the next attempt to unmount it.
    pub next: Instant,
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

/// A pod that has ended may still exist as an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodObject {
    Exists,
    Deleted,
}

impl Worker {
    pub fn new(live: Live, key: ObjectKey, wake: Arc<Notify>) -> Self {
        Self {
            reporter: Reporter::new(live.clone(), key.clone()),
            live,
            key,
            wake,
            attempts: HashMap::new(),
            tasks: Tasks::default(),
            busy: HashMap::new(),
            container: None,
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
                Some(ended) = self.tasks.join_next() => {
                    if let Some(finished) = ended {
                        self.finish(finished);
                    }
                }
            }
        }
    }

    /// Records the result of a task.
    fn finish(
        &mut self,
        Finished {
            id,
            purpose,
            result,
        }: Finished,
    ) {
        let attempt = self.attempts.get_mut(&id.bucket);
        let attempt = attempt.filter(|now| purpose == Purpose::Mount(now.entry.clone()));
        let now = Instant::now();
        match (result, attempt) {
            (TaskResult::Attempted(Ok(())), Some(attempt)) => attempt.mounted(now),
            (TaskResult::Attempted(Err(Failure::Gone)), Some(attempt)) => {
                attempt.container_gone(now);
            }
            (TaskResult::Attempted(Err(Failure::Observed(observed))), Some(attempt)) => {
                let reason = observed.reason().map(Reason::as_str);
                let attempts = attempt.failed(now, observed);
                tracing::info!(%id, reason, attempts, "not mounted");
            }
            (TaskResult::Rekeyed(failure), Some(attempt)) => attempt.rekeyed(failure),
            // The spec has changed meanwhile.
            (TaskResult::Attempted(_) | TaskResult::Rekeyed(_), None) => {}
            (TaskResult::Unmounted(Ok(())), _) => drop(self.busy.remove(&id)),
            (TaskResult::Unmounted(Err(error)), _) => {
                let next = now + RETRY_INTERVAL;
                self.busy.insert(id, BusyMount { error, next });
            }
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
        match (stage(pod.as_deref()), pod) {
            (PodStage::Gone, pod) => {
                let object = pod.map_or(PodObject::Deleted, |_| PodObject::Exists);
                self.close_all(object).await
            }
            (PodStage::Ending(left), _) if left.is_zero() => {
                self.abort_all().await;
                Some(RETRY_INTERVAL)
            }
            (PodStage::Ending(left), _) => {
                self.reset();
                Some(left)
            }
            (PodStage::Waiting, Some(pod)) => Some(self.report_refusals(&pod).await),
            (PodStage::Running(container), Some(pod)) => {
                self.reporter.container_runs(&container);
                Some(self.align(&pod, &container).await)
            }
            (PodStage::Waiting | PodStage::Running(_), None) => None,
        }
    }

    /// Unmounts everything after the pod has ended. If the pod object is deleted as well, the
    /// worker may end then.
    async fn close_all(&mut self, object: PodObject) -> Option<Duration> {
        self.reset();
        let since = *self.gone_since.get_or_insert_with(Instant::now);
        let ids = self.live.mounted(&self.key);
        if ids.is_empty() {
            let cleared = self.reporter.clear().await;
            if cleared == Cleared::Retry && since.elapsed() <= ABORT_DELAY {
                return Some(STATUS_RETRY);
            }
            return match object {
                PodObject::Exists => Some(IDLE_INTERVAL),
                PodObject::Deleted => None,
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
        self.attempts.clear();
        self.busy.clear();
        self.container = None;
    }

    /// Ends all mounts at once, even those in use.
    async fn abort_all(&mut self) {
        self.reset();
        for id in self.live.mounted(&self.key) {
            tracing::warn!(%id, "ended a mount that blocked the end of its pod");
            self.live.0.mounts.abort(&id.to_string()).await;
        }
    }
}

fn stage(pod: Option<&Pod>) -> PodStage {
    let Some(pod) = pod else {
        return PodStage::Gone;
    };
    if objects::has_ended(pod) {
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
