//! Makes the mounts in a running container and the spec agree: what the spec has
//! no more is unmounted, what it has is mounted. Each bucket has a task of its own
//! meanwhile, so that one whose S3 service hangs keeps no other waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::attempt::{REKEY, Try};
use super::id::MountId;
use super::running::Running;
use super::status::{self, About, Seen};
use super::worker::{Done, IDLE, SOON, Worker};
use crate::container::{self, Container};
use crate::{Error, Process};
use hutch_api::{Bucket, BucketStatus, Mechanism, Sandbox, labels};
use hutch_core::buckets;

/// How often a container is looked for that should be there.
const SEARCH: Duration = Duration::from_millis(100);

/// How a mount that nobody wants goes.
enum Way {
    /// With its mounter.
    Close,
    /// Out of the container alone: the pod has it as a volume until its end.
    Withdraw(Process, PathBuf),
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
        let nothing = self.live.mounted(&self.key).is_empty() && buckets::noted(pod).count() == 0;
        if spec.is_empty() && nothing {
            self.busy.clear();
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
    pub(super) fn sandbox_of(&self, pod: &Pod) -> Option<Arc<Sandbox>> {
        let caches = &self.live.0.caches;
        let sandbox = caches.sandboxes.get(&self.key.namespace, &self.key.name)?;
        (sandbox.uid().as_ref() == pod.labels().get(labels::SANDBOX_UID)).then_some(sandbox)
    }

    /// What is mounted and the spec does not have, or has as a volume of the pod.
    fn unwanted(&self, running: &Running<'_>) -> Vec<(MountId, Way)> {
        let mut all: Vec<_> = self.live.mounted(&self.key);
        all.retain(|id| !running.wants(self, id));
        let mut all: Vec<_> = all.into_iter().map(|id| (id, Way::Close)).collect();
        for (name, _) in buckets::noted(running.pod) {
            let id = running.id_of(self, name);
            let closing = all.iter().any(|(other, _)| *other == id);
            let Some(path) = buckets::volume_path(running.pod, name) else {
                continue;
            };
            if !running.has(name) && !closing && running.has_volume_at(self, path) {
                all.push((id, Way::Withdraw(running.container.init, path.into())));
            }
        }
        all
    }

    /// Begins to unmount; returns when to look again.
    fn unmount(&mut self, unwanted: Vec<(MountId, Way)>) -> Duration {
        let mut wait = IDLE;
        for (id, way) in unwanted {
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
                    let task = async move {
                        let closed = match way {
                            Way::Close => live.close(&own).await,
                            Way::Withdraw(process, path) => {
                                live.withdraw(&own, process, &path).await
                            }
                        };
                        Done::Closed(own, closed)
                    };
                    self.closing.insert(id.clone());
                    wait = wait.min(SOON);
                    self.begin(name, task);
                }
            }
        }
        wait
    }

    /// Begins to mount, if it is time; returns when to look again.
    fn tend(&mut self, running: &Running<'_>, bucket: &Bucket) -> Duration {
        let fresh = Try::new(bucket, running.id);
        let same = |old: &&Try| old.digest == fresh.digest && old.container == fresh.container;
        let before = self.tries.get(&bucket.name).filter(same).cloned();
        let changed = before.is_none();
        let mut this = before.unwrap_or(fresh);
        let id = running.id_of(self, &bucket.name);
        let name = id.to_string();
        let mut wait = IDLE;
        if running.comes_as_volume(self, &id, &mut this) {
            wait = self.look_at_volume(running, bucket, &name, &mut this);
        } else if this.mounted && self.live.0.mounts.lives(&name) {
            let ill = self.live.0.health.ill(&name);
            let refused = matches!(ill, Some(Error::AccessDenied(_)));
            this.seen = Some(ill.map_or_else(|| this.fine(), |error| Seen::ill(&error)));
            // Refused keys are of no use to anybody: there may be others by now.
            let early = if refused {
                REKEY - IDLE
            } else {
                Duration::ZERO
            };
            if this.rekey <= Instant::now() + early {
                this.rekey = Instant::now() + REKEY;
                let (live, bucket, inside) = (self.live.clone(), bucket.clone(), running.container);
                let task = async move {
                    let own = bucket.name.clone();
                    Done::Rekeyed(own, live.rekey(id, bucket, inside, refused).await)
                };
                self.begin(name, task);
            }
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

    /// Looks how a bucket is that is a volume of the pod; returns when to look again.
    fn look_at_volume(
        &self,
        running: &Running<'_>,
        bucket: &Bucket,
        name: &str,
        this: &mut Try,
    ) -> Duration {
        if this.missing {
            let path = &bucket.mount_path;
            let error = Error::Mounter(format!("no bucket is mounted at {path}"));
            this.seen = Some(Seen::ill(&error));
            return SOON;
        }
        let path = buckets::volume_path(running.pod, &bucket.name).unwrap_or(&bucket.mount_path);
        let health = &self.live.0.health;
        if let Some(looked) = health.volume(name, running.container.init, Path::new(path)) {
            this.seen =
                Some(looked.map_or_else(|error| Seen::ill_volume(&error), |()| this.fine()));
        }
        IDLE
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
                container: Some(running.id),
                mechanism: match self.tries.get(name).is_some_and(|tried| tried.instead) {
                    true => Mechanism::Live,
                    false => buckets::mechanism(running.pod, name),
                },
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
