//! Makes mounts again whose mounter has died, everywhere that they were: at the
//! staging path, at the targets, in the containers. The keys are nowhere in this
//! process by then; volume and Secret are read again from the API server, which
//! also takes up new keys. Works alike on mounts of an earlier process.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, Secret};
use kube::{Api, Client};
use serde::Deserialize;
use tokio::time::MissedTickBehavior;
use tonic::Status;

use super::Door;
use super::volume::Volume;
use super::{containers, places};
use crate::mounts::Known;
use crate::{Place, Source};

/// How often all mounts are gone through, besides at every death.
const ROUND: Duration = Duration::from_secs(10);
/// Mounts that are made again at once: one that hangs does not keep the others.
const AT_ONCE: usize = 8;

/// How long the API server may take to tell of a volume and its Secret.
const ASKING: Duration = Duration::from_secs(10);

/// What is known to be in all of its places: ids, each with its device.
type Settled = Mutex<HashMap<String, String>>;

/// Why a mount is not made again yet.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the volume {0} cannot be read: {1}")]
    Volume(String, kube::Error),
    #[error("the volume {0} names no Secret (nodeStageSecretRef), or is not ours")]
    Foreign(String),
    #[error("the Secret of the volume {0} cannot be read: {1}")]
    Secret(String, kube::Error),
    #[error("the API server does not answer")]
    Silent,
    #[error("{}", .0.message())]
    Mount(#[from] Status),
}

/// What the kubelet keeps beside a target.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeData {
    /// Name of the PersistentVolume.
    #[serde(rename = "specVolID")]
    volume: String,
    volume_handle: String,
    driver_name: String,
}

impl Door {
    /// Heals until it is dropped.
    pub(super) async fn heal(&self) {
        let settled = Settled::default();
        let mut deaths = self.places.mounts.deaths();
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let look = tokio::select! {
                _ = round.tick() => true,
                // One that was missed is found as well.
                _ = deaths.recv() => false,
            };
            let ids = places::ids(&self.places.mounts);
            if look {
                self.look_at(ids.clone());
            }
            lock(&settled).retain(|id, _| ids.contains(id));
            let all = futures::stream::iter(ids);
            all.for_each_concurrent(AT_ONCE, async |id| {
                if let Err(trouble) = self.heal_one(&id, &settled).await {
                    tracing::warn!(id, %trouble, "a volume's mount is not healed yet");
                }
            })
            .await;
        }
    }

    /// Has all mounts looked at. One that is stuck is ended by that, and is among the
    /// deaths then.
    fn look_at(&self, ids: Vec<String>) {
        for id in ids {
            let mounts = self.places.mounts.clone();
            tokio::spawn(async move { mounts.check(&id, false).await });
        }
    }

    async fn heal_one(&self, id: &str, settled: &Settled) -> Result<(), Trouble> {
        let Some(known) = self.places.mounts.look(id).await else {
            return Ok(());
        };
        let is_settled =
            |known: &Known| known.lives && lock(settled).get(id) == Some(&known.device);
        // What is staged and not published is seen to when it is published.
        let Some(volume) = self
            .published(id, &known)
            .await
            .filter(|_| !is_settled(&known))
        else {
            return Ok(());
        };
        let _turn = self.turns.take(volume.volume_handle.clone()).await;
        // It may have been taken away meanwhile, or made again by a call.
        let Some(known) = self.places.mounts.look(id).await else {
            return Ok(());
        };
        if !known.lives {
            let source = self.source_of(&volume, places::is_read_only(id));
            let Ok(source) = tokio::time::timeout(ASKING, source).await else {
                return Err(Trouble::Silent);
            };
            let source = source?;
            self.places.revive(id, &source).await?;
            tracing::info!(id, "a volume's mounter had died; mounted again");
        }
        self.settle(id, settled).await
    }

    /// Brings the mount to the places that have an earlier one.
    async fn settle(&self, id: &str, settled: &Settled) -> Result<(), Trouble> {
        let Some(known) = self.places.mounts.look(id).await else {
            return Ok(());
        };
        let pods = targets(id, &known).filter_map(containers::cgroups);
        let pods: HashSet<_> = pods.flatten().collect();
        let (seen, hosts) = (known.clone(), known.places.clone());
        let search = move || containers::behind(&seen, &pods);
        let found = tokio::task::spawn_blocking(search)
            .await
            .unwrap_or_default();
        let hosts = hosts
            .into_iter()
            .filter(|place| matches!(place, Place::Host(_)));
        for place in hosts.chain(found) {
            let put = self.places.mounts.attach(id, &place).await;
            put.map_err(places::status)?;
        }
        lock(settled).insert(id.to_owned(), known.device);
        Ok(())
    }

    /// What the kubelet says of a volume that is published: that of any target, as
    /// all that share a mount are of one source.
    async fn published(&self, id: &str, known: &Known) -> Option<VolumeData> {
        for target in targets(id, known) {
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

    /// The volume as it is now, with the keys that it has now.
    async fn source_of(&self, data: &VolumeData, read_only: bool) -> Result<Source, Trouble> {
        let name = &data.volume;
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        let found = volumes.get(name).await;
        let found = found.map_err(|error| Trouble::Volume(name.clone(), error))?;
        let foreign = || Trouble::Foreign(name.clone());
        let csi = found.spec.and_then(|spec| spec.csi).ok_or_else(foreign)?;
        let same = csi.driver == self.settings.driver && csi.volume_handle == data.volume_handle;
        let secret = csi.node_stage_secret_ref.or(csi.node_publish_secret_ref);
        let secret = secret.filter(|_| same).ok_or_else(foreign)?;
        let (Some(secret), Some(namespace)) = (secret.name, secret.namespace) else {
            return Err(foreign());
        };
        let keys = keys(&self.client, &namespace, &secret).await;
        let keys = keys.map_err(|error| Trouble::Secret(name.clone(), error))?;
        let attributes = csi
            .volume_attributes
            .unwrap_or_default()
            .into_iter()
            .collect();
        let volume = Volume::read(&data.volume_handle, &attributes).map_err(Status::from)?;
        let mut source = self.places.source(volume, &keys)?;
        source.read_only |= read_only;
        Ok(source)
    }
}

async fn keys(client: &Client, namespace: &str, name: &str) -> kube::Result<places::Secrets> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace)
        .get(name)
        .await?;
    let all = secret.data.unwrap_or_default().into_iter();
    // What is no text is missed by name.
    Ok(all
        .filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)))
        .collect())
}

/// The targets that the mount is published at.
fn targets<'a>(id: &'a str, known: &'a Known) -> impl Iterator<Item = &'a Path> {
    known.places.iter().filter_map(move |place| match place {
        Place::Host(path) if places::staging(id) != Some(path) => Some(path.as_path()),
        _ => None,
    })
}

fn lock(settled: &Settled) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
    settled.lock().unwrap_or_else(PoisonError::into_inner)
}
