//! Repairs volumes: starts a new mounter for one that has died and attaches the mount again at
//! the staging path, at the targets and in the containers. This process no longer has the
//! credentials then. It reads volume and Secret again from the API server, so it also picks
//! up new credentials. Mounts of an earlier process are repaired in the same way.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, Secret};
use kube::{Api, Client};
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use super::Driver;
use super::error::VolumeError;
use super::volume::Volume;
use super::{containers, publisher};
use crate::mounts::{ProbeTarget, Snapshot};
use crate::{MountTarget, Source};
use hutch_core::sync::Lock;

/// Pause between two rounds over all mounts. Each death starts a round as well.
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);
/// Mounts that are repaired at the same time, so that a hanging one does not delay the others.
const MAX_CONCURRENT_REPAIRS: usize = 8;

/// Timeout of reading a volume and its Secret from the API server.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The mounts that are attached at all of their targets: device numbers by ID.
type Complete = Lock<HashMap<String, String>>;

/// The reason why a mount is not repaired yet.
#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error("the volume {0} cannot be read: {1}")]
    Volume(String, kube::Error),
    #[error("the volume {0} names no Secret (nodeStageSecretRef), or is not ours")]
    Foreign(String),
    #[error("the Secret of the volume {0} cannot be read: {1}")]
    Secret(String, kube::Error),
    #[error("the API server does not answer")]
    Timeout,
    #[error(transparent)]
    Mount(#[from] VolumeError),
}

/// The kubelet's file `vol_data.json` beside a target.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeData {
    /// Name of the PersistentVolume.
    #[serde(rename = "specVolID")]
    volume: String,
    volume_handle: String,
    driver_name: String,
}

impl Driver {
    /// Repairs volumes. It never returns.
    pub(super) async fn run_repairs(&self) {
        let complete = Complete::default();
        let mut deaths = self.publisher.mounts.deaths();
        let mut round = tokio::time::interval(REPAIR_INTERVAL);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let check = tokio::select! {
                _ = round.tick() => true,
                // Each round covers all mounts, so a missed message does no harm.
                _ = deaths.recv() => false,
            };
            let ids = publisher::ids(&self.publisher.mounts);
            if check {
                self.check_all(ids.clone());
            }
            complete.lock().retain(|id, _| ids.contains(id));
            let all = futures::stream::iter(ids);
            all.for_each_concurrent(MAX_CONCURRENT_REPAIRS, async |id| {
                if let Err(error) = self.repair(&id, &complete).await {
                    tracing::warn!(id, %error, "a volume's mount is not repaired yet");
                }
            })
            .await;
        }
    }

    /// Starts a check of each mount. The check kills a stuck mounter, which is then repaired
    /// like any that has died.
    fn check_all(&self, ids: Vec<String>) {
        for id in ids {
            let mounts = self.publisher.mounts.clone();
            tokio::spawn(async move { mounts.check(&id, ProbeTarget::Mounter).await });
        }
    }

    async fn repair(&self, id: &str, complete: &Complete) -> Result<(), RepairError> {
        let Some(mount) = self.publisher.mounts.snapshot(id).await else {
            return Ok(());
        };
        let is_complete =
            |mount: &Snapshot| mount.alive && complete.lock().get(id) == Some(&mount.device);
        // A mount that is staged but not published is repaired when it is published.
        let Some(volume) = self
            .published(id, &mount)
            .await
            .filter(|_| !is_complete(&mount))
        else {
            return Ok(());
        };
        let _guard = self.by_volume.lock(volume.volume_handle.clone()).await;
        // A call may have closed it or started a new mounter meanwhile.
        let Some(mount) = self.publisher.mounts.snapshot(id).await else {
            return Ok(());
        };
        if !mount.alive {
            let source = self.source_of(id, &volume);
            let Ok(source) = tokio::time::timeout(READ_TIMEOUT, source).await else {
                return Err(RepairError::Timeout);
            };
            let source = source?;
            self.publisher.restart(id, &source).await?;
            tracing::info!(id, "a volume's mounter had died; mounted again");
        }
        self.reattach(id, complete).await
    }

    /// Attaches the mount at every target that has an earlier one.
    async fn reattach(&self, id: &str, complete: &Complete) -> Result<(), RepairError> {
        let Some(mount) = self.publisher.mounts.snapshot(id).await else {
            return Ok(());
        };
        let pods = targets(id, &mount).filter_map(containers::cgroup_names);
        let pods: HashSet<_> = pods.flatten().collect();
        let (copy, hosts) = (mount.clone(), mount.targets.clone());
        let search = move || containers::stale_targets(&copy, &pods);
        let found = tokio::task::spawn_blocking(search)
            .await
            .unwrap_or_default();
        let hosts = hosts
            .into_iter()
            .filter(|target| matches!(target, MountTarget::Host(_)));
        for target in hosts.chain(found) {
            let attached = self.publisher.mounts.attach(id, &target).await;
            attached.map_err(VolumeError::from)?;
        }
        complete.lock().insert(id.to_owned(), mount.device);
        Ok(())
    }

    /// The kubelet's data about a published volume. Any target's file will do, because all
    /// targets of a mount have the same source.
    async fn published(&self, id: &str, mount: &Snapshot) -> Option<VolumeData> {
        for target in targets(id, mount) {
            let file = target.with_file_name("vol_data.json");
            let Ok(text) = tokio::fs::read(file).await else {
                continue;
            };
            let data: Option<VolumeData> = serde_json::from_slice(&text).ok();
            if let Some(data) = data.filter(|data| data.driver_name == self.settings.driver) {
                return Some(data);
            }
        }
        None
    }

    /// Reads the volume and its credentials from the API server.
    async fn source_of(&self, id: &str, data: &VolumeData) -> Result<Source, RepairError> {
        let name = &data.volume;
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        let found = volumes.get(name).await;
        let found = found.map_err(|error| RepairError::Volume(name.clone(), error))?;
        let foreign = || RepairError::Foreign(name.clone());
        let csi = found.spec.and_then(|spec| spec.csi).ok_or_else(foreign)?;
        let same = csi.driver == self.settings.driver && csi.volume_handle == data.volume_handle;
        let secret = csi.node_stage_secret_ref.or(csi.node_publish_secret_ref);
        let secret = secret.filter(|_| same).ok_or_else(foreign)?;
        let (Some(secret), Some(namespace)) = (secret.name, secret.namespace) else {
            return Err(foreign());
        };
        let keys = keys(&self.client, &namespace, &secret).await;
        let keys = keys.map_err(|error| RepairError::Secret(name.clone(), error))?;
        let attributes = csi
            .volume_attributes
            .unwrap_or_default()
            .into_iter()
            .collect();
        let volume = Volume::read(&data.volume_handle, &attributes).map_err(VolumeError::from)?;
        let mut source = self.publisher.source(volume, &keys)?;
        source.read_only |= publisher::is_read_only(id);
        Ok(source)
    }
}

async fn keys(client: &Client, namespace: &str, name: &str) -> kube::Result<publisher::Secrets> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace)
        .get(name)
        .await?;
    let all = secret.data.unwrap_or_default().into_iter();
    // A value that is not UTF-8 is dropped here and reported as missing later.
    Ok(all
        .filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)))
        .collect())
}

/// The targets at which the mount is published.
fn targets<'a>(id: &'a str, mount: &'a Snapshot) -> impl Iterator<Item = &'a Path> {
    mount.targets.iter().filter_map(move |target| match target {
        MountTarget::Host(path) if publisher::staging(id) != Some(path) => Some(path.as_path()),
        _ => None,
    })
}
