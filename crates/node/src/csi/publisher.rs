//! Stages and publishes volumes with the mount core. A mounter belongs to a staging path. A
//! target whose volume differs from the staged one (another volume with the same handle,
//! other credentials, or read-only) gets a mounter of its own. So no pod ever sees a bucket
//! through another volume's credentials. A published mount whose mounter runs never changes,
//! even if a later call differs, because a container uses it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::VolumeError;
use super::secrets;
use super::volume::Volume;
use crate::mounts::Snapshot;
use crate::ns_helper::Removal;
use crate::{Error, MountTarget, Mounts, Source};
use hutch_core::s3::AllowedEndpoints;
use hutch_core::sync::Lock;

/// The data of a volume's Secret, as a call contains it.
pub(super) type Secrets = HashMap<String, String>;

// Prefixes of this driver's mount IDs. The staging path or target follows. The state directory
// stores these IDs.
const STAGED: &str = "csi-staged:";
const OWN: &str = "csi-own:";
const OWN_READ_ONLY: &str = "csi-own-ro:";

/// Stages and publishes volumes.
pub(super) struct Publisher {
    pub mounts: Mounts,
    endpoints: AllowedEndpoints,
    /// The ID of each target's mount. The kubelet's unpublish calls contain only the target.
    published: Lock<HashMap<PathBuf, String>>,
}

impl Publisher {
    /// Adopts the targets that an earlier process has published.
    pub async fn adopt(mounts: Mounts, endpoints: AllowedEndpoints) -> Self {
        let mut published = HashMap::new();
        for id in ids(&mounts) {
            let targets = mounts.snapshot(&id).await.map(|mount| mount.targets);
            for target in targets.into_iter().flatten() {
                if let MountTarget::Host(path) = target
                    && staging(&id) != Some(&path)
                {
                    published.insert(path, id.clone());
                }
            }
        }
        Self {
            mounts,
            endpoints,
            published: Lock::new(published),
        }
    }

    /// Mounts the volume at its staging path.
    pub async fn stage(
        &self,
        staging: &Path,
        volume: Volume,
        secrets: &Secrets,
    ) -> Result<(), VolumeError> {
        let source = self.source(volume, secrets)?;
        let id = staged(staging);
        let at = host(staging);
        if let Some(mount) = self.alive(&id).await {
            let published = mount.targets.iter().any(|target| *target != at);
            if published || mount.is_of(&source) {
                return Ok(self.mounts.attach(&id, &at).await?);
            }
        }
        self.restart(&id, &source).await?;
        if let Err(error) = self.mounts.attach(&id, &at).await {
            self.close_failed(&id).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Ends the mount of a staging path.
    pub async fn unstage(&self, staging: &Path) -> Result<(), VolumeError> {
        self.mounts.close(&staged(staging)).await?;
        Ok(self
            .mounts
            .unmount_host_path(staging, Removal::BestEffort)
            .await?)
    }

    /// Attaches the volume at a pod's target path.
    pub async fn publish(
        &self,
        request: PublishRequest,
        mut volume: Volume,
        secrets: &Secrets,
    ) -> Result<(), VolumeError> {
        let narrowed = request.read_only && !volume.read_only;
        volume.read_only |= narrowed;
        let source = self.source(volume, secrets)?;
        let before = self.mount_at(&request.target);
        let id = match &before {
            Some(id) => id.clone(),
            None if narrowed => format!("{OWN_READ_ONLY}{}", request.target.display()),
            None => self.choose(&request, &source).await,
        };
        if self.alive(&id).await.is_none() {
            self.restart(&id, &source).await?;
        }
        // It is recorded first, because unpublishing a target without a mount is no error.
        self.published
            .lock()
            .insert(request.target.clone(), id.clone());
        let attached = self.attach(&id, &request).await;
        if attached.is_err() && before.is_none() {
            // After an error the kubelet may assume that nothing is mounted, and then it
            // does not call unpublish.
            self.unpublish(&request.target).await?;
        }
        attached
    }

    async fn attach(&self, id: &str, request: &PublishRequest) -> Result<(), VolumeError> {
        if staging(id) == Some(&request.staging) {
            self.mounts.attach(id, &host(&request.staging)).await?;
        }
        Ok(self.mounts.attach(id, &host(&request.target)).await?)
    }

    /// Chooses the mount for a target: the staged one, unless its mounter runs with another
    /// source.
    async fn choose(&self, request: &PublishRequest, source: &Source) -> String {
        let id = staged(&request.staging);
        match self.alive(&id).await {
            Some(mount) if !mount.is_of(source) => format!("{OWN}{}", request.target.display()),
            _ => id,
        }
    }

    /// Detaches the volume from a pod's target path and removes the directory.
    pub async fn unpublish(&self, target: &Path) -> Result<(), VolumeError> {
        match self.mount_at(target) {
            Some(id) if staging(&id).is_some() => self.mounts.detach(&id, &host(target)).await,
            Some(id) => self.mounts.close(&id).await,
            None => Ok(()),
        }?;
        self.mounts
            .unmount_host_path(target, Removal::Required)
            .await?;
        self.published.lock().remove(target);
        Ok(())
    }

    /// Starts a mounter for a mount that has none, and attaches it at all its targets.
    pub async fn restart(&self, id: &str, source: &Source) -> Result<(), VolumeError> {
        let before = self.mounts.snapshot(id).await.map(|mount| mount.targets);
        let before = before.unwrap_or_default();
        if let Err(error) = self.mounts.ensure(id, source).await {
            if before.is_empty() {
                self.close_failed(id).await;
            }
            return Err(error.into());
        }
        for target in before {
            match self.mounts.attach(id, &target).await {
                Ok(()) | Err(Error::Gone) => {}
                // The remaining targets are still attached. `repair` retries this one.
                Err(error) => {
                    tracing::warn!(id, ?target, %error, "a mount is not attached again yet")
                }
            }
        }
        Ok(())
    }

    /// Removes a mount after a failed attempt.
    async fn close_failed(&self, id: &str) {
        if let Err(error) = self.mounts.close(id).await {
            tracing::warn!(id, %error, "a failed mount is not removed");
        }
    }

    /// The mount, if its mounter has answered and runs.
    async fn alive(&self, id: &str) -> Option<Snapshot> {
        self.mounts.snapshot(id).await.filter(|mount| mount.alive)
    }

    pub fn source(&self, volume: Volume, secrets: &Secrets) -> Result<Source, VolumeError> {
        secrets::source(volume, secrets, self.endpoints)
    }

    /// The ID of the mount that is published at a target.
    fn mount_at(&self, target: &Path) -> Option<String> {
        self.published.lock().get(target).cloned()
    }
}

/// The paths and the mode of a publish call.
pub(super) struct PublishRequest {
    pub staging: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// The IDs of all mounts of this driver.
pub(super) fn ids(mounts: &Mounts) -> Vec<String> {
    let mut all = mounts.ids();
    all.retain(|id| {
        [STAGED, OWN, OWN_READ_ONLY]
            .iter()
            .any(|kind| id.starts_with(kind))
    });
    all
}

fn staged(staging: &Path) -> String {
    format!("{STAGED}{}", staging.display())
}

/// The mount's staging path. `None` for a mount that belongs to a target.
pub(super) fn staging(id: &str) -> Option<&Path> {
    id.strip_prefix(STAGED).map(Path::new)
}

/// True if the mount is read-only even if the volume is not.
pub(super) fn is_read_only(id: &str) -> bool {
    id.starts_with(OWN_READ_ONLY)
}

fn host(path: &Path) -> MountTarget {
    MountTarget::Host(path.to_owned())
}
