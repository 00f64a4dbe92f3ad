//! Aligns the mounts in a running container with the spec: mounts new buckets and unmounts
//! buckets that the spec no longer has. Each bucket has a task of its own, so that one whose
//! S3 service hangs does not delay the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::id::MountId;
use super::running::RunningContainer;
use super::tasks::{Purpose, TaskResult};
use super::worker::{IDLE_INTERVAL, RETRY_INTERVAL, Worker};
use crate::Process;
use crate::container::{self, Container};
use hutch_api::{Sandbox, labels};
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
            self.reporter.report(&sandbox, Vec::new()).await;
            return IDLE_INTERVAL;
        }
        let Some(container) = self.find(id).await else {
            return SEARCH_INTERVAL;
        };
        let running = RunningContainer {
            live: self.live.clone(),
            key: self.key.clone(),
            sandbox,
            pod,
            id,
            container,
        };
        let unwanted = self.unwanted(&running);
        self.busy
            .retain(|id, _| unwanted.iter().any(|(other, _)| other == id));
        let mut wait = IDLE_INTERVAL;
        for (id, unmount) in unwanted {
            wait = wait.min(self.unmount_when_due(id, unmount));
        }
        for bucket in &running.sandbox.spec.buckets {
            wait = wait.min(self.step_bucket(&running, bucket));
        }
        let entries = self.entries(&running);
        self.reporter.report(&running.sandbox, entries).await;
        wait
    }

    /// Finds the container by its ID. The result is cached, because a search reads every
    /// process.
    async fn find(&mut self, id: &str) -> Option<Container> {
        let cached = self.container.take();
        let same = |(cached_id, found): &(String, Container)| cached_id == id && found.init.runs();
        if let Some(cached) = cached.filter(same) {
            return self.container.insert(cached).1.into();
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
        let mounted = self.live.mounted(&self.key).into_iter();
        let unwanted = mounted.filter(|id| !running.wants(id, self.attempts.get(&id.bucket)));
        let mut all: Vec<_> = unwanted.map(|id| (id, Unmount::Close)).collect();
        for (name, _) in buckets::annotated(running.pod) {
            let id = running.mount_id(name);
            let closing = all.iter().any(|(other, _)| *other == id);
            let Some(path) = buckets::volume_path(running.pod, name) else {
                continue;
            };
            if running.entry(name).is_none() && !closing && running.has_volume_at(path) {
                let unmount = Unmount::InContainer(running.container.init, path.into());
                all.push((id, unmount));
            }
        }
        all
    }

    /// Starts to unmount, unless the mount was in use a moment ago. Returns the time until
    /// the next look.
    fn unmount_when_due(&mut self, id: MountId, unmount: Unmount) -> Duration {
        // The spec no longer wants a mount that is being attempted.
        self.tasks.abort_mount(&id);
        let next = self.busy.get(&id).map(|busy| busy.next);
        let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return wait;
        }
        let (live, own) = (self.live.clone(), id.clone());
        let task = async move {
            TaskResult::Unmounted(match unmount {
                Unmount::Close => live.close(&own).await,
                Unmount::InContainer(process, path) => {
                    live.unmount_in_container(&own, process, &path).await
                }
            })
        };
        self.tasks.start(id, Purpose::Unmount, task);
        RETRY_INTERVAL
    }
}
