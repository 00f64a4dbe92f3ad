//! Looks at every mount every 10 s, at the S3 service behind it every 30 s, as
//! services charge for requests, and again at every look while it does not answer. A
//! mount that hangs keeps no other from being looked at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::id::MountId;
use crate::mounts::{Health as State, Probes};
use crate::{Error, Mounts, Process, volume};

const EVERY: Duration = Duration::from_secs(10);
/// Every so many looks the S3 service is asked, too.
const REMOTE: u64 = 3;
/// Changes that a slow listener may fall behind by.
const BACKLOG: usize = 256;

/// The health of all mounts of the live door, and of the buckets of its sandboxes
/// that are volumes. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    mounts: Mounts,
    ill: Arc<Mutex<HashMap<String, Error>>>,
    volumes: Arc<Mutex<HashMap<String, Volume>>>,
    changes: broadcast::Sender<String>,
}

/// A bucket that is a volume, in the container that runs.
#[derive(Clone)]
struct Volume {
    process: Process,
    path: PathBuf,
    probes: Arc<Probes>,
    /// What the last look said.
    state: Option<Result<(), Error>>,
}

impl Health {
    pub fn new(mounts: Mounts) -> Self {
        Self {
            mounts,
            ill: Arc::default(),
            volumes: Arc::default(),
            changes: broadcast::Sender::new(BACKLOG),
        }
    }

    /// Ids of mounts that fell ill, died or recovered.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// What is wrong with a mount that does not answer.
    pub fn ill(&self, id: &str) -> Option<Error> {
        self.all().get(id).cloned()
    }

    /// That a mount has just answered, whatever was said of the one before.
    pub fn answered(&self, id: &str) {
        self.all().remove(id);
    }

    /// How the volume at `path` in the container of that process is doing, which is
    /// looked at from now on; nothing where the first look is under way.
    pub fn volume(&self, id: &str, process: Process, path: &Path) -> Option<Result<(), Error>> {
        let mut volumes = self.volumes();
        let same = |known: &&Volume| known.process == process && known.path == path;
        if let Some(known) = volumes.get(id).filter(same) {
            return known.state.clone();
        }
        let new = Volume {
            process,
            path: path.to_owned(),
            probes: Arc::default(),
            state: None,
        };
        volumes.insert(id.to_owned(), new);
        drop(volumes);
        tokio::spawn(self.clone().look_at_volume(id.to_owned(), false));
        None
    }

    /// Looks at every mount for ever.
    pub async fn keep(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 1.. {
            ticks.tick().await;
            let ids = self.mounts.ids();
            self.all().retain(|id, _| ids.contains(id));
            for id in ids.into_iter().filter(|id| MountId::parse(id).is_some()) {
                let remote = look % REMOTE == 0 || self.ill(&id).is_some();
                tokio::spawn(self.clone().look_at(id, remote));
            }
            self.volumes().retain(|_, volume| volume.process.runs());
            for (id, volume) in self.volumes().iter() {
                let remote = look % REMOTE == 0 || matches!(volume.state, Some(Err(_)));
                tokio::spawn(self.clone().look_at_volume(id.clone(), remote));
            }
        }
    }

    async fn look_at(self, id: String, remote: bool) {
        let state = self.mounts.check(&id, remote).await;
        let changed = match state {
            State::Fine => self.all().remove(&id).is_some(),
            State::Dead => {
                self.all().remove(&id);
                true
            }
            State::Ill(error) => self.all().insert(id.clone(), error.clone()) != Some(error),
        };
        self.tell(id, changed);
    }

    async fn look_at_volume(self, id: String, remote: bool) {
        let Some(Volume {
            process,
            path,
            probes,
            ..
        }) = self.volumes().get(&id).cloned()
        else {
            return;
        };
        let state = Some(volume::look(&probes, process, &path, remote).await);
        let changed = match self.volumes().get_mut(&id) {
            Some(now) if Arc::ptr_eq(&now.probes, &probes) && now.state != state => {
                now.state = state;
                true
            }
            _ => false,
        };
        self.tell(id, changed);
    }

    fn tell(&self, id: String, changed: bool) {
        if changed {
            // Without a listener there is nobody to tell.
            let _ = self.changes.send(id);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Error>> {
        self.ill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn volumes(&self) -> MutexGuard<'_, HashMap<String, Volume>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
