//! Aligns the mounts in a running container with the spec: mounts new buckets and unmounts
//! buckets that the spec no longer has. Each bucket has a task of its own, so that one whose
//! S3 service hangs does not delay the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::attempt::{MountAttempt, REKEY_INTERVAL, VolumeState};
use super::id::MountId;
use super::running::RunningContainer;
use super::status::{self, EntryFields, Observation};
use super::worker::{IDLE_INTERVAL, RETRY_INTERVAL, TaskResult, Worker};
use crate::container::{self, Container};
use crate::mounts::InUse;
use crate::{Error, Process};
use hutch_api::{Bucket, BucketStatus, Mechanism, Sandbox, labels};
use hutch_core::buckets;

/// Pause between two searches for a container that should run.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// The way to unmount an unwanted bucket.
enum Unmount {
    /// Detach it and end its mounter.
    Close,
    /// Unmount it in the container only. The pod keeps it as a volume until the pod ends.
    InContainer(Process, PathBuf),
}

impl Worker {
    /// Starts the missing steps and reports the state. Returns the time until the next look.
    pub(super) async fn align(&mut self, pod: &Pod, id: &str) -> Duration {
        let Some(sandbox) = self.sandbox_of(pod) else {
            return IDLE_INTERVAL;
        };
        let spec = &sandbox.spec.buckets;
        self.attempts
            .retain(|name, _| spec.iter().any(|bucket| bucket.name == *name));
        let nothing =
            self.live.mounted(&self.key).is_empty() && buckets::annotated(pod).count() == 0;
        if spec.is_empty() && nothing {
            self.busy.clear();
            self.report(&sandbox, Vec::new()).await;
            return IDLE_INTERVAL;
        }
        let Some(container) = self.find(id).await else {
            return SEARCH_INTERVAL;
        };
        let running = RunningContainer {
            sandbox: &sandbox,
            pod,
            id,
            container,
        };
        let unwanted = self.unwanted(&running);
        self.busy
            .retain(|id, _| unwanted.iter().any(|(other, _)| other == id));
        let mut wait = self.unmount(unwanted);
        for bucket in spec {
            wait = wait.min(self.tend(&running, bucket));
        }
        let entries = self.entries(&running);
        self.report(&sandbox, entries).await;
        wait
    }

    /// Finds the container by its ID. The result is cached, because a search reads every
    /// process.
    async fn find(&mut self, id: &str) -> Option<Container> {
        let before = self.container.take();
        let same = |(known, found): &(String, Container)| known == id && found.init.runs();
        if let Some(before) = before.filter(same) {
            return self.container.insert(before).1.into();
        }
        let wanted = id.to_owned();
        let found = tokio::task::spawn_blocking(move || container::find(&wanted)).await;
        let found = found.ok().flatten()?;
        Some(self.container.insert((id.to_owned(), found)).1)
    }

    /// The sandbox with the UID that the pod was created for.
    pub(super) fn sandbox_of(&self, pod: &Pod) -> Option<Arc<Sandbox>> {
        let caches = &self.live.0.caches;
        let sandbox = caches.sandboxes.get(&self.key.namespace, &self.key.name)?;
        (sandbox.uid().as_ref() == pod.labels().get(labels::SANDBOX_UID)).then_some(sandbox)
    }

    /// The buckets that are mounted although the spec does not have them, or has them as
    /// volumes of the pod.
    fn unwanted(&self, running: &RunningContainer<'_>) -> Vec<(MountId, Unmount)> {
        let mut all: Vec<_> = self.live.mounted(&self.key);
        all.retain(|id| !running.wants(self, id));
        let mut all: Vec<_> = all.into_iter().map(|id| (id, Unmount::Close)).collect();
        for (name, _) in buckets::annotated(running.pod) {
            let id = running.id_of(self, name);
            let closing = all.iter().any(|(other, _)| *other == id);
            let Some(path) = buckets::volume_path(running.pod, name) else {
                continue;
            };
            if !running.has(name) && !closing && running.has_volume_at(self, path) {
                let unmount = Unmount::InContainer(running.container.init, path.into());
                all.push((id, unmount));
            }
        }
        all
    }

    /// Starts to unmount. Returns the time until the next look.
    fn unmount(&mut self, unwanted: Vec<(MountId, Unmount)>) -> Duration {
        let mut wait = IDLE_INTERVAL;
        for (id, unmount) in unwanted {
            if !self.closing.contains(&id) {
                // A task in progress is an attempt to mount it, which is no longer wanted.
                self.cancel(&id.to_string());
            }
            let next = self.busy.get(&id).map(|(_, next)| *next);
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            match left.filter(|left| !left.is_zero()) {
                Some(left) => wait = wait.min(left),
                None => {
                    let (live, name) = (self.live.clone(), id.to_string());
                    let own = id.clone();
                    let task = async move {
                        let closed = match unmount {
                            Unmount::Close => live.close(&own).await,
                            Unmount::InContainer(process, path) => {
                                live.unmount_in_container(&own, process, &path).await
                            }
                        };
                        TaskResult::Closed(own, closed)
                    };
                    self.closing.insert(id.clone());
                    wait = wait.min(RETRY_INTERVAL);
                    self.start(name, task);
                }
            }
        }
        wait
    }

    /// Starts the next step for one bucket of the spec. Returns the time until the next look.
    fn tend(&mut self, running: &RunningContainer<'_>, bucket: &Bucket) -> Duration {
        let fresh = MountAttempt::new(bucket, running.id);
        let same = |old: &&MountAttempt| old.is_for(&fresh);
        let before = self.attempts.get(&bucket.name).filter(same).cloned();
        let changed = before.is_none();
        let mut attempt = before.unwrap_or(fresh);
        let id = running.id_of(self, &bucket.name);
        let name = id.to_string();
        let mut wait = IDLE_INTERVAL;
        if running.comes_as_volume(self, &id, &mut attempt) {
            wait = self.look_at_volume(running, bucket, &name, &mut attempt);
        } else if attempt.is_mounted() && self.live.0.mounts.lives(&name) {
            self.tend_mounted(running, bucket, id, &mut attempt);
        } else if attempt.next <= Instant::now() {
            let (live, bucket, inside) = (self.live.clone(), bucket.clone(), running.container);
            let (own, tried) = (bucket.name.clone(), attempt.clone());
            let task = async move {
                TaskResult::Attempted(own, live.attempt(id, bucket, inside, tried).await)
            };
            if changed {
                self.cancel(&name);
            }
            self.start(name, task);
        } else {
            wait = attempt.next.saturating_duration_since(Instant::now());
        }
        self.attempts.insert(bucket.name.clone(), attempt);
        wait
    }

    /// Observes a mounted bucket, and looks for other credentials in its Secret if it is time.
    fn tend_mounted(
        &mut self,
        running: &RunningContainer<'_>,
        bucket: &Bucket,
        id: MountId,
        attempt: &mut MountAttempt,
    ) {
        let name = id.to_string();
        let failure = self.live.0.health.failure(&name);
        let refused = matches!(failure, Some(Error::AccessDenied(_)));
        attempt.observed = Some(failure.map_or_else(
            || attempt.healthy(),
            |error| Observation::not_answering(&error),
        ));
        // After a refusal the Secret is looked at sooner: it may have new credentials.
        let early = if refused {
            REKEY_INTERVAL - IDLE_INTERVAL
        } else {
            Duration::ZERO
        };
        if attempt.rekey > Instant::now() + early {
            return;
        }
        attempt.rekey = Instant::now() + REKEY_INTERVAL;
        // A mount whose credentials are refused transfers nothing, so it may be replaced
        // even if it is in use.
        let in_use = if refused { InUse::Kill } else { InUse::Refuse };
        let (live, bucket, inside) = (self.live.clone(), bucket.clone(), running.container);
        let task = async move {
            let own = bucket.name.clone();
            TaskResult::Rekeyed(own, live.rekey(id, bucket, inside, in_use).await)
        };
        self.start(name, task);
    }

    /// Observes a bucket that is a volume of the pod. Returns the time until the next look.
    fn look_at_volume(
        &self,
        running: &RunningContainer<'_>,
        bucket: &Bucket,
        name: &str,
        attempt: &mut MountAttempt,
    ) -> Duration {
        if attempt.volume == VolumeState::Missing {
            let path = &bucket.mount_path;
            let error = Error::Mounter(format!("no bucket is mounted at {path}"));
            attempt.observed = Some(Observation::not_answering(&error));
            return RETRY_INTERVAL;
        }
        let path = buckets::volume_path(running.pod, &bucket.name).unwrap_or(&bucket.mount_path);
        let health = &self.live.0.health;
        if let Some(checked) = health.volume(name, running.container.init, Path::new(path)) {
            attempt.observed = Some(checked.map_or_else(
                |error| Observation::volume_not_answering(&error),
                |()| attempt.healthy(),
            ));
        }
        IDLE_INTERVAL
    }

    /// The status entries of all buckets.
    fn entries(&self, running: &RunningContainer<'_>) -> Vec<BucketStatus> {
        let now = Timestamp::now();
        let entry = |name: &str, digest: Option<&str>, observed: Observation| {
            let before = self.reported.before(running.sandbox, name);
            let known = before.and_then(|before| before.digest.as_deref());
            let replaced =
                |attempt: &MountAttempt| attempt.volume == VolumeState::ReplacedByLiveMount;
            let fields = EntryFields {
                name,
                digest: digest.or(known).unwrap_or_default(),
                container: Some(running.id),
                mechanism: if self.attempts.get(name).is_some_and(replaced) {
                    Mechanism::Live
                } else {
                    buckets::mechanism(running.pod, name)
                },
            };
            status::entry(&fields, observed, before, now)
        };
        let attempted = running.sandbox.spec.buckets.iter().filter_map(|bucket| {
            let attempt = self.attempts.get(&bucket.name)?;
            Some(entry(
                &bucket.name,
                Some(&attempt.digest),
                attempt.observed.clone()?,
            ))
        });
        let mut entries: Vec<_> = attempted.collect();
        // The spec may have a new bucket with the name of one that is being unmounted. The
        // new one's entry counts.
        let named =
            |entries: &[BucketStatus], name: &str| entries.iter().any(|entry| entry.name == name);
        for (id, (error, _)) in &self.busy {
            if !named(&entries, &id.bucket) {
                entries.push(entry(&id.bucket, None, Observation::busy(error)));
            }
        }
        // The entry of a bucket stays until the bucket is unmounted.
        for id in &self.closing {
            let before = self.reported.before(running.sandbox, &id.bucket);
            if let Some(before) = before.filter(|_| !named(&entries, &id.bucket)) {
                entries.push(before.clone());
            }
        }
        entries
    }
}
