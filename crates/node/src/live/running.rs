//! A container that runs, and what of the spec's buckets is in it: as a volume of the
//! pod, or through this door.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::attempt::Try;
use super::id::MountId;
use super::worker::Worker;
use crate::container::Container;
use crate::mounts::Occupant;
use hutch_api::{Bucket, Mechanism, Sandbox};
use hutch_core::buckets;

/// A running container, and the sandbox whose it is.
pub struct Running<'a> {
    pub sandbox: &'a Sandbox,
    pub pod: &'a Pod,
    /// Its id, as the pod's status has it.
    pub id: &'a str,
    pub container: Container,
}

impl Running<'_> {
    /// What its mount is called.
    pub fn id_of(&self, worker: &Worker, bucket: &str) -> MountId {
        MountId {
            key: worker.key.clone(),
            uid: self.sandbox.uid().unwrap_or_default(),
            bucket: bucket.to_owned(),
        }
    }

    /// The spec's entry of that name.
    fn entry(&self, bucket: &str) -> Option<&Bucket> {
        let mut all = self.sandbox.spec.buckets.iter();
        all.find(|own| own.name == bucket)
    }

    /// Whether the spec has a bucket of that name.
    pub fn has(&self, bucket: &str) -> bool {
        self.entry(bucket).is_some()
    }

    /// Whether the spec has that mount, and the pod no volume in its stead.
    pub fn wants(&self, worker: &Worker, id: &MountId) -> bool {
        let Some(bucket) = self.entry(&id.bucket) else {
            return false;
        };
        let instead = || {
            let tried = worker.tries.get(&bucket.name);
            tried.is_some_and(|tried| tried.instead) || self.is_at(worker, id, bucket)
        };
        let live = buckets::mechanism(self.pod, &bucket.name) == Mechanism::Live;
        self.sandbox.uid().as_ref() == Some(&id.uid) && (live || instead())
    }

    /// Whether that mount is where the spec has it.
    fn is_at(&self, worker: &Worker, id: &MountId, bucket: &Bucket) -> bool {
        let path = Path::new(&bucket.mount_path);
        let there = worker.live.0.mounts.occupant(self.container.init, path);
        there == Occupant::Ours(id.to_string())
    }

    /// Whether a volume of the pod is mounted at the path, and no mount of this door.
    pub fn has_volume_at(&self, worker: &Worker, path: &str) -> bool {
        let mounts = &worker.live.0.mounts;
        match mounts.occupant(self.container.init, Path::new(path)) {
            Occupant::Nobody => false,
            Occupant::Ours(id) => MountId::parse(&id).is_none(),
            Occupant::Other => true,
        }
    }

    /// Whether the bucket is a volume of the pod, and is in the container or may still
    /// come. One that is missing twice in a row was unmounted there, and is mounted
    /// like any other.
    pub fn comes_as_volume(&self, worker: &Worker, id: &MountId, this: &mut Try) -> bool {
        let Some(path) = buckets::volume_path(self.pod, &id.bucket) else {
            return false;
        };
        if this.instead {
            return false;
        }
        let is_live = self
            .entry(&id.bucket)
            .is_some_and(|own| self.is_at(worker, id, own));
        let missing = !self.has_volume_at(worker, path);
        this.instead = is_live || (missing && this.missing);
        this.missing = missing;
        !this.instead
    }
}
