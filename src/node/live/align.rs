//! Makes the mounts in a running container and the spec agree: what the spec has
//! no more is unmounted, what it has is mounted. Each bucket has a task of its own
//! meanwhile, so that one whose S3 service hangs keeps no other waiting.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::attempt::Try;
use super::id::MountId;
use super::status::{self, About, Seen};
use super::worker::{Done, IDLE, SOON, Worker};
use crate::crd::{Bucket, BucketStatus, Mechanism, Sandbox, labels};
use crate::domain::buckets;
use crate::node::container::{self, Container};
use crate::node::volume;

/// How often a container is looked for that should be there.
const SEARCH: Duration = Duration::from_millis(100);

/// A running container, and the sandbox whose it is.
struct Running<'a> {
    sandbox: &'a Sandbox,
    pod: &'a Pod,
    /// Its id, as the pod's status has it.
    id: &'a str,
    container: Container,
}

impl Worker {
    /// Begins what is missing and says how it is; returns when to look again.
    pub(super) async fn align(&mut self, pod: &Pod, id: &str) -> Duration {
        let Some(sandbox) = self.sandbox_of(pod) else {
            return IDLE;
        };
        let spec = &sandbox.spec.buckets;
        self.tries
            .retain(|name, _| spec.iter().any(|bucket| bucket.name == *name));
        let unwanted = self.unwanted(&sandbox, pod);
        self.busy.retain(|id, _| unwanted.contains(id));
        if spec.is_empty() && unwanted.is_empty() {
            self.report(&sandbox, Vec::new()).await;
            return IDLE;
        }
        let Some(container) = self.find(id).await else {
            return SEARCH;
        };
        let running = Running {
            sandbox: &sandbox,
            pod,
            id,
            container,
        };
        let mut wait = self.unmount(unwanted);
        for bucket in spec {
            wait = wait.min(self.tend(&running, bucket).await);
        }
        let entries = self.entries(&running);
        self.report(&sandbox, entries).await;
        wait
    }

    /// The container of that id; looking for it reads every process.
    async fn find(&mut self, id: &str) -> Option<Container> {
        let before = self.inside.take();
        let same = |(known, inside): &(String, Container)| known == id && inside.init.runs();
        if let Some(before) = before.filter(same) {
            return self.inside.insert(before).1.into();
        }
        let wanted = id.to_owned();
        let found = tokio::task::spawn_blocking(move || container::find(&wanted)).await;
        let found = found.ok().flatten()?;
        Some(self.inside.insert((id.to_owned(), found)).1)
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

    /// Begins to unmount; returns when to look again.
    fn unmount(&mut self, unwanted: Vec<MountId>) -> Duration {
        let mut wait = IDLE;
        for id in unwanted {
            if !self.closing.contains(&id) {
                // What is tried of it has no use any more.
                self.give_up(&id.to_string());
            }
            let next = self.busy.get(&id).map(|(_, next)| *next);
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            match left.filter(|left| !left.is_zero()) {
                Some(left) => wait = wait.min(left),
                None => {
                    let (live, name) = (self.live.clone(), id.to_string());
                    let own = id.clone();
                    let task = async move { Done::Closed(own.clone(), live.close(&own).await) };
                    self.closing.insert(id.clone());
                    wait = wait.min(SOON);
                    self.begin(name, task);
                }
            }
        }
        wait
    }

    /// Begins to mount, if it is time; returns when to look again.
    async fn tend(&mut self, running: &Running<'_>, bucket: &Bucket) -> Duration {
        let fresh = Try::new(bucket, running.id);
        let same = |old: &&Try| old.digest == fresh.digest && old.container == fresh.container;
        let before = self.tries.get(&bucket.name).filter(same).cloned();
        let changed = before.is_none();
        let mut this = before.unwrap_or(fresh);
        let id = MountId {
            key: self.key.clone(),
            uid: running.sandbox.uid().unwrap_or_default(),
            bucket: bucket.name.clone(),
        };
        let name = id.to_string();
        let mut wait = IDLE;
        if buckets::mechanism(running.pod, &bucket.name) == Mechanism::Csi {
            let looked = volume::look(running.container.init, &bucket.mount_path).await;
            this.seen = Some(looked.map_or_else(|error| Seen::ill(&error), |()| Seen::mounted()));
        } else if this.mounted && self.live.0.mounts.lives(&name) {
            let ill = self.live.0.health.ill(&name);
            this.seen = Some(ill.map_or_else(Seen::mounted, |error| Seen::ill(&error)));
        } else if this.next <= Instant::now() {
            let (live, bucket, inside) = (self.live.clone(), bucket.clone(), running.container);
            let (own, tried) = (bucket.name.clone(), this.clone());
            let task =
                async move { Done::Tried(own, live.attempt(id, bucket, inside, tried).await) };
            if changed {
                self.give_up(&name);
            }
            self.begin(name, task);
        } else {
            wait = this.next.saturating_duration_since(Instant::now());
        }
        self.tries.insert(bucket.name.clone(), this);
        wait
    }

    /// What is to be said of all buckets.
    fn entries(&self, running: &Running<'_>) -> Vec<BucketStatus> {
        let now = Timestamp::now();
        let entry = |name: &str, digest: Option<&str>, seen: Seen| {
            let before = self.written.before(running.sandbox, name);
            let known = before.and_then(|before| before.digest.as_deref());
            let about = About {
                name,
                digest: digest.or(known).unwrap_or_default(),
                container: running.id,
                mechanism: buckets::mechanism(running.pod, name),
            };
            status::entry(&about, seen, before, now)
        };
        let tried = running.sandbox.spec.buckets.iter().filter_map(|bucket| {
            let tried = self.tries.get(&bucket.name)?;
            Some(entry(
                &bucket.name,
                Some(&tried.digest),
                tried.seen.clone()?,
            ))
        });
        let mut entries: Vec<_> = tried.collect();
        // A bucket may have come back under the name of one that goes.
        let named =
            |entries: &[BucketStatus], name: &str| entries.iter().any(|entry| entry.name == name);
        for (id, (error, _)) in &self.busy {
            if !named(&entries, &id.bucket) {
                entries.push(entry(&id.bucket, None, Seen::busy(error)));
            }
        }
        // Until it is unmounted, what was said of it stays.
        for id in &self.closing {
            let before = self.written.before(running.sandbox, &id.bucket);
            if let Some(before) = before.filter(|_| !named(&entries, &id.bucket)) {
                entries.push(before.clone());
            }
        }
        entries
    }
}
