//! Makes the mounts in a running container and the spec agree: what the spec has
//! no more is unmounted, what it has is mounted, all buckets at the same time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::id::MountId;
use super::status::{self, About, Seen};
use super::worker::{IDLE, SOON, Worker};
use crate::crd::{Bucket, BucketStatus, Mechanism, Sandbox, labels};
use crate::domain::buckets;
use crate::node::container::{self, Container};

/// How often a container is looked for that should be there.
const SEARCH: Duration = Duration::from_millis(100);

/// A running container, and the sandbox whose it is.
pub struct Running<'a> {
    pub sandbox: &'a Sandbox,
    pub pod: &'a Pod,
    /// Its id, as the pod's status has it.
    pub id: &'a str,
    pub container: Container,
}

impl Running<'_> {
    pub fn mechanism(&self, bucket: &str) -> Mechanism {
        buckets::mechanism(self.pod, bucket)
    }
}

impl Worker {
    /// Returns when to look again.
    pub(super) async fn align(&mut self, pod: &Pod, id: &str) -> Duration {
        let Some(sandbox) = self.sandbox_of(pod) else {
            return IDLE;
        };
        let spec = &sandbox.spec.buckets;
        self.tries
            .retain(|name, _| spec.iter().any(|bucket| bucket.name == *name));
        let unwanted = self.unwanted(&sandbox, pod);
        if spec.is_empty() && unwanted.is_empty() {
            self.report(&sandbox, Vec::new()).await;
            return IDLE;
        }
        let wanted = id.to_owned();
        let found = tokio::task::spawn_blocking(move || container::find(&wanted)).await;
        let Some(container) = found.ok().flatten() else {
            return SEARCH;
        };
        let running = Running {
            sandbox: &sandbox,
            pod,
            id,
            container,
        };
        let mut entries = self.unmount(&running, &unwanted).await;
        let busy = if entries.is_empty() { IDLE } else { SOON };
        let (mounted, wait) = self.mount_all(&running).await;
        // A bucket may have come back under the name of one that is busy.
        entries.retain(|entry| mounted.iter().all(|other| other.name != entry.name));
        entries.extend(mounted);
        self.report(&sandbox, entries).await;
        wait.min(busy)
    }

    /// The sandbox that the pod was made for, and no other of its name.
    fn sandbox_of(&self, pod: &Pod) -> Option<Arc<Sandbox>> {
        let caches = &self.live.0.caches;
        let sandbox = caches.sandboxes.get(&self.key.namespace, &self.key.name)?;
        (sandbox.uid().as_ref() == pod.labels().get(labels::SANDBOX_UID)).then_some(sandbox)
    }

    /// Mounts that the spec does not have, or has as a volume of the pod.
    fn unwanted(&self, sandbox: &Sandbox, pod: &Pod) -> Vec<MountId> {
        let wanted = |id: &MountId| {
            let named = |bucket: &Bucket| bucket.name == id.bucket;
            sandbox.uid().as_ref() == Some(&id.uid)
                && sandbox.spec.buckets.iter().any(named)
                && buckets::mechanism(pod, &id.bucket) == Mechanism::Live
        };
        let mut mounted = self.live.mounted(&self.key);
        mounted.retain(|id| !wanted(id));
        mounted
    }

    /// Unmounts; returns entries of those that are in use.
    async fn unmount(&self, running: &Running<'_>, ids: &[MountId]) -> Vec<BucketStatus> {
        let closed = join_all(ids.iter().map(|id| self.close(id))).await;
        let failed = ids.iter().zip(closed);
        failed
            .filter_map(|(id, closed)| {
                let error = closed.err()?;
                let before = self.written.before(running.sandbox, &id.bucket);
                let digest = before.and_then(|before| before.digest.as_deref());
                let about = About {
                    name: &id.bucket,
                    digest: digest.unwrap_or_default(),
                    container: running.id,
                    mechanism: Mechanism::Live,
                };
                let seen = Seen::busy(&error);
                Some(status::entry(&about, seen, before, Timestamp::now()))
            })
            .collect()
    }

    /// Mounts what is not mounted; returns the entries and when to look again.
    async fn mount_all(&mut self, running: &Running<'_>) -> (Vec<BucketStatus>, Duration) {
        let uid = running.sandbox.uid().unwrap_or_default();
        let spec = &running.sandbox.spec.buckets;
        let attempts: Vec<_> = spec
            .iter()
            .map(|bucket| {
                let id = MountId {
                    key: self.key.clone(),
                    uid: uid.clone(),
                    bucket: bucket.name.clone(),
                };
                let before = self.tries.remove(&bucket.name);
                self.live.attempt(id, bucket, running, before)
            })
            .collect();
        let tried = join_all(attempts).await;
        let (mut entries, mut wait) = (Vec::new(), IDLE);
        for (bucket, tried) in spec.iter().zip(tried) {
            if let Some(seen) = tried.seen.clone() {
                let about = About {
                    name: &bucket.name,
                    digest: &tried.digest,
                    container: running.id,
                    mechanism: running.mechanism(&bucket.name),
                };
                let before = self.written.before(running.sandbox, &bucket.name);
                entries.push(status::entry(&about, seen, before, Timestamp::now()));
            }
            if !tried.mounted {
                wait = wait.min(tried.next.saturating_duration_since(Instant::now()));
            }
            self.tries.insert(bucket.name.clone(), tried);
        }
        (entries, wait)
    }
}
