//! A running container, and the way each bucket of the spec gets into it: as a volume of the
//! pod or as a live mount.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::attempt::{MountAttempt, VolumeState};
use super::id::MountId;
use super::worker::Worker;
use crate::container::Container;
use crate::mounts::Occupant;
use hutch_api::{Bucket, Mechanism, Sandbox};
use hutch_core::buckets;

/// A running container with its pod and sandbox.
pub struct RunningContainer<'a> {
    pub sandbox: &'a Sandbox,
    pub pod: &'a Pod,
    /// The container's ID from the pod's status.
    pub id: &'a str,
    pub container: Container,
}

impl RunningContainer<'_> {
    /// The mount ID of a bucket.
    pub fn id_of(&self, worker: &Worker, bucket: &str) -> MountId {
        MountId {
            key: worker.key.clone(),
            uid: self.sandbox.uid().unwrap_or_default(),
            bucket: bucket.to_owned(),
        }
    }

    /// The spec's entry with this name.
    fn entry(&self, bucket: &str) -> Option<&Bucket> {
        let mut all = self.sandbox.spec.buckets.iter();
        all.find(|own| own.name == bucket)
    }

    /// True if the spec has a bucket with this name.
    pub fn has(&self, bucket: &str) -> bool {
        self.entry(bucket).is_some()
    }

    /// True if the spec requires this live mount. A bucket that is a volume of the pod needs
    /// one only if a live mount has replaced the volume.
    pub fn wants(&self, worker: &Worker, id: &MountId) -> bool {
        let Some(bucket) = self.entry(&id.bucket) else {
            return false;
        };
        let replaced = || {
            let attempt = worker.attempts.get(&bucket.name);
            attempt.is_some_and(|attempt| attempt.volume == VolumeState::ReplacedByLiveMount)
                || self.is_at(worker, id, bucket)
        };
        let live = buckets::mechanism(self.pod, &bucket.name) == Mechanism::Live;
        self.sandbox.uid().as_ref() == Some(&id.uid) && (live || replaced())
    }

    /// True if the live mount is at the spec's path.
    fn is_at(&self, worker: &Worker, id: &MountId, bucket: &Bucket) -> bool {
        let path = Path::new(&bucket.mount_path);
        let there = worker.live.0.mounts.occupant(self.container.init, path);
        there == Occupant::Ours(id.to_string())
    }

    /// True if a volume of the pod is mounted at the path, and not a live mount.
    pub fn has_volume_at(&self, worker: &Worker, path: &str) -> bool {
        let mounts = &worker.live.0.mounts;
        match mounts.occupant(self.container.init, Path::new(path)) {
            Occupant::Nobody => false,
            Occupant::Ours(id) => MountId::parse(&id).is_none(),
            Occupant::Other => true,
        }
    }

    /// True if the bucket is a volume of the pod that is mounted in the container or may
    /// still appear. A volume that is missing at two looks in a row was unmounted there, and
    /// a live mount replaces it.
    pub fn comes_as_volume(
        &self,
        worker: &Worker,
        id: &MountId,
        attempt: &mut MountAttempt,
    ) -> bool {
        let Some(path) = buckets::volume_path(self.pod, &id.bucket) else {
            return false;
        };
        if attempt.volume == VolumeState::ReplacedByLiveMount {
            return false;
        }
        let is_live = self
            .entry(&id.bucket)
            .is_some_and(|own| self.is_at(worker, id, own));
        let missing = !self.has_volume_at(worker, path);
        attempt.volume = if is_live || (missing && attempt.volume == VolumeState::Missing) {
            VolumeState::ReplacedByLiveMount
        } else if missing {
            VolumeState::Missing
        } else {
            VolumeState::Expected
        };
        attempt.volume != VolumeState::ReplacedByLiveMount
    }
}
