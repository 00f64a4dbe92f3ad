//! A running container, and the way each bucket of the spec gets into it: as a volume of the
//! pod or as a live mount.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::Live;
use super::attempt::{EntryKey, MountAttempt, VolumeSight};
use super::id::{MountId, ObjectKey};
use crate::container::Container;
use crate::mounts::MountedBucket;
use hutch_api::{Bucket, Mechanism, Sandbox};
use hutch_core::buckets;

/// A running container with its pod and sandbox.
pub struct RunningContainer<'a> {
    pub live: Live,
    pub key: ObjectKey,
    pub sandbox: Arc<Sandbox>,
    pub pod: &'a Pod,
    /// The container's ID from the pod's status.
    pub id: &'a str,
    pub container: Container,
}

impl RunningContainer<'_> {
    /// The mount ID of a bucket.
    pub fn mount_id(&self, bucket: &str) -> MountId {
        MountId {
            key: self.key.clone(),
            uid: self.sandbox.uid().unwrap_or_default(),
            bucket: bucket.to_owned(),
        }
    }

    /// The key of a bucket's entry in this container.
    pub fn entry_key(&self, bucket: &Bucket) -> EntryKey {
        EntryKey {
            digest: buckets::digest(bucket),
            container: self.id.to_owned(),
        }
    }

    /// The spec's entry with this name.
    pub fn entry(&self, bucket: &str) -> Option<&Bucket> {
        let mut all = self.sandbox.spec.buckets.iter();
        all.find(|own| own.name == bucket)
    }

    /// True if the spec requires this live mount. A bucket that is a volume of the pod needs
    /// one only if a live mount has replaced the volume.
    pub fn wants(&self, id: &MountId, attempt: Option<&MountAttempt>) -> bool {
        let Some(bucket) = self.entry(&id.bucket) else {
            return false;
        };
        let is_live = buckets::mechanism(self.pod, &bucket.name) == Mechanism::Live;
        let replaced = || {
            attempt.is_some_and(|attempt| !attempt.is_volume()) || self.is_live_mounted(id, bucket)
        };
        self.sandbox.uid().as_ref() == Some(&id.uid) && (is_live || replaced())
    }

    /// True if the live mount is at the spec's path.
    fn is_live_mounted(&self, id: &MountId, bucket: &Bucket) -> bool {
        let path = Path::new(&bucket.mount_path);
        self.mounted_at(path) == MountedBucket::Own(id.to_string())
    }

    /// True if a volume of the pod is mounted at the path, and not a live mount.
    pub fn has_volume_at(&self, path: &str) -> bool {
        match self.mounted_at(Path::new(path)) {
            MountedBucket::None => false,
            MountedBucket::Own(id) => MountId::parse(&id).is_none(),
            MountedBucket::Foreign => true,
        }
    }

    /// Looks for a volume of the pod in the container. `path` is the volume's mount path.
    pub fn look_for_volume(&self, bucket: &Bucket, path: &str) -> VolumeSight {
        if self.is_live_mounted(&self.mount_id(&bucket.name), bucket) {
            VolumeSight::LiveMount
        } else if self.has_volume_at(path) {
            VolumeSight::Mounted
        } else {
            VolumeSight::Missing
        }
    }

    fn mounted_at(&self, path: &Path) -> MountedBucket {
        self.live.0.mounts.mounted_at(self.container.init, path)
    }
}
