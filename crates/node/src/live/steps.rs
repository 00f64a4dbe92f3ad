//! The next step for one bucket of the spec in a running container.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{MountAttempt, REKEY_INTERVAL};
use super::running::RunningContainer;
use super::status::Observation;
use super::tasks::{Purpose, TaskResult};
use super::worker::{IDLE_INTERVAL, RETRY_INTERVAL, Worker};
use crate::Error;
use crate::mounts::InUse;
use hutch_api::Bucket;
use hutch_core::buckets;

impl Worker {
    /// Starts the next step for one bucket of the spec. Returns the time until the next look.
    pub(super) fn step_bucket(
        &mut self,
        running: &RunningContainer<'_>,
        bucket: &Bucket,
    ) -> Duration {
        let mut attempt = self.take_attempt(running, bucket);
        let volume_path = buckets::volume_path(running.pod, &bucket.name);
        if let Some(path) = volume_path.filter(|_| attempt.is_volume()) {
            attempt.see_volume(running.look_for_volume(bucket, path));
        }
        let id = running.mount_id(&bucket.name).to_string();
        let wait = if attempt.is_volume() {
            let path = volume_path.unwrap_or(&bucket.mount_path);
            self.check_volume(running, bucket, path, &mut attempt)
        } else if attempt.is_mounted() && self.live.0.mounts.is_alive(&id) {
            self.check_mounted(running, bucket, &mut attempt);
            IDLE_INTERVAL
        } else {
            self.mount_when_due(running, bucket, &attempt)
        };
        self.attempts.insert(bucket.name.clone(), attempt);
        wait
    }

    /// The attempt for this entry in this container, or a new one.
    fn take_attempt(&mut self, running: &RunningContainer<'_>, bucket: &Bucket) -> MountAttempt {
        let entry = running.entry_key(bucket);
        let before = self.attempts.remove(&bucket.name);
        before
            .filter(|attempt| attempt.entry == entry)
            .unwrap_or_else(|| {
                let now = Instant::now();
                match buckets::volume_path(running.pod, &bucket.name) {
                    Some(_) => MountAttempt::volume(entry, now),
                    None => MountAttempt::live(entry, now),
                }
            })
    }

    /// Starts an attempt if its time has come. Returns the time until the next look.
    fn mount_when_due(
        &mut self,
        running: &RunningContainer<'_>,
        bucket: &Bucket,
        attempt: &MountAttempt,
    ) -> Duration {
        let wait = attempt.wait(Instant::now());
        if !wait.is_zero() {
            return wait;
        }
        let id = running.mount_id(&bucket.name);
        let (live, bucket, container) = (self.live.clone(), bucket.clone(), running.container);
        let (own, history) = (id.clone(), attempt.history());
        let task = async move {
            TaskResult::Attempted(live.mount(&own, &bucket, container, history).await)
        };
        let purpose = Purpose::Mount(attempt.entry.clone());
        self.tasks.start(id, purpose, task);
        IDLE_INTERVAL
    }

    /// Observes a mounted bucket, and looks for other credentials in its Secret if it is time.
    fn check_mounted(
        &mut self,
        running: &RunningContainer<'_>,
        bucket: &Bucket,
        attempt: &mut MountAttempt,
    ) {
        let id = running.mount_id(&bucket.name).to_string();
        match self.live.0.health.failure(&id) {
            None => {
                attempt.answers();
                self.rekey_when_due(running, bucket, attempt, Duration::ZERO, InUse::Refuse);
            }
            Some(error) => {
                attempt.observe(Observation::not_answering(&error));
                // After a refusal the Secret is looked at sooner: it may have new
                // credentials. A mount whose credentials are refused transfers nothing, so
                // it may be replaced even if it is in use.
                let (early, in_use) = match error {
                    Error::AccessDenied(_) => (REKEY_INTERVAL - IDLE_INTERVAL, InUse::Kill),
                    _ => (Duration::ZERO, InUse::Refuse),
                };
                self.rekey_when_due(running, bucket, attempt, early, in_use);
            }
        }
    }

    /// Starts a check of the Secret if it is due within `early`.
    fn rekey_when_due(
        &mut self,
        running: &RunningContainer<'_>,
        bucket: &Bucket,
        attempt: &mut MountAttempt,
        early: Duration,
        in_use: InUse,
    ) {
        if !attempt.take_rekey(Instant::now(), early) {
            return;
        }
        let id = running.mount_id(&bucket.name);
        let (live, bucket, container) = (self.live.clone(), bucket.clone(), running.container);
        let own = id.clone();
        let task =
            async move { TaskResult::Rekeyed(live.rekey(&own, &bucket, container, in_use).await) };
        let purpose = Purpose::Mount(attempt.entry.clone());
        self.tasks.start(id, purpose, task);
    }

    /// Observes a bucket that is a volume of the pod. Returns the time until the next look.
    fn check_volume(
        &self,
        running: &RunningContainer<'_>,
        bucket: &Bucket,
        path: &str,
        attempt: &mut MountAttempt,
    ) -> Duration {
        if attempt.is_missing() {
            let path = &bucket.mount_path;
            let error = Error::Mounter(format!("no bucket is mounted at {path}"));
            attempt.observe(Observation::not_answering(&error));
            return RETRY_INTERVAL;
        }
        let id = running.mount_id(&bucket.name).to_string();
        let init = running.container.init;
        match self.live.0.health.volume(&id, init, Path::new(path)) {
            Some(Ok(())) => attempt.answers(),
            Some(Err(error)) => attempt.observe(Observation::volume_not_answering(&error)),
            None => {}
        }
        IDLE_INTERVAL
    }
}
