//! Checks every mount every 10 s. The S3 service behind it is checked every 30 s only, because
//! services charge for requests, but every 10 s while it does not answer. A mount that hangs
//! does not delay the checks of the others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::id::MountId;
use crate::mounts::{Health, ProbeTarget, Probes};
use crate::{Error, Mounts, Process};
use hutch_core::sync::Lock;

const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// One of this many checks also probes the S3 service.
const SERVICE_EVERY: u64 = 3;
/// Changes by which a slow receiver may fall behind before it misses some.
const BACKLOG: usize = 256;

/// Checks all live mounts, and the buckets of the sandboxes that are volumes. Cheap to clone.
#[derive(Clone)]
pub struct HealthMonitor {
    mounts: Mounts,
    /// The errors of unhealthy mounts by ID.
    failures: Arc<Lock<HashMap<String, Error>>>,
    volumes: Arc<Lock<HashMap<String, MonitoredVolume>>>,
    changes: broadcast::Sender<String>,
}

/// A bucket that is a volume, in its running container.
#[derive(Clone)]
struct MonitoredVolume {
    process: Process,
    path: PathBuf,
    probes: Arc<Probes>,
    /// The result of the last check.
    last: Option<Result<(), Error>>,
}

impl MonitoredVolume {
    fn failure(&self) -> Option<&Error> {
        self.last.as_ref()?.as_ref().err()
    }
}

impl HealthMonitor {
    pub fn new(mounts: Mounts) -> Self {
        Self {
            mounts,
            failures: Arc::default(),
            volumes: Arc::default(),
            changes: broadcast::Sender::new(BACKLOG),
        }
    }

    /// Receives the ID of each mount whose health changes or that has died.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// The error of an unhealthy mount.
    pub fn failure(&self, id: &str) -> Option<Error> {
        self.failures.lock().get(id).cloned()
    }

    /// Records that a new mount has just answered. An error of the mount before it is dropped.
    pub fn answered(&self, id: &str) {
        self.failures.lock().remove(id);
    }

    /// The last result for the volume at `path` in the container of that process. The first
    /// call starts to monitor the volume. `None` until the first check has ended.
    pub fn volume(&self, id: &str, process: Process, path: &Path) -> Option<Result<(), Error>> {
        let mut volumes = self.volumes.lock();
        let same = |volume: &&MonitoredVolume| volume.process == process && volume.path == path;
        if let Some(volume) = volumes.get(id).filter(same) {
            return volume.last.clone();
        }
        let new = MonitoredVolume {
            process,
            path: path.to_owned(),
            probes: Arc::default(),
            last: None,
        };
        volumes.insert(id.to_owned(), new);
        drop(volumes);
        let check = self.clone();
        tokio::spawn(check.check_volume(id.to_owned(), ProbeTarget::Mounter));
        None
    }

    /// Checks all mounts and volumes. It never returns.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 1.. {
            ticks.tick().await;
            let ids = self.mounts.ids();
            self.failures.lock().retain(|id, _| ids.contains(id));
            for id in ids.into_iter().filter(|id| MountId::parse(id).is_some()) {
                let target = target(round, LastCheck::of(self.failure(&id).as_ref()));
                tokio::spawn(self.clone().check_mount(id, target));
            }
            self.volumes
                .lock()
                .retain(|_, volume| volume.process.runs());
            for (id, volume) in self.volumes.lock().iter() {
                let target = target(round, LastCheck::of(volume.failure()));
                tokio::spawn(self.clone().check_volume(id.clone(), target));
            }
        }
    }

    async fn check_mount(self, id: String, target: ProbeTarget) {
        let health = self.mounts.check(&id, target).await;
        let changed = match health {
            Health::Healthy => self.failures.lock().remove(&id).is_some(),
            Health::Dead => {
                self.failures.lock().remove(&id);
                true
            }
            Health::Unhealthy(error) => {
                self.failures.lock().insert(id.clone(), error.clone()) != Some(error)
            }
        };
        if changed {
            self.notify(id);
        }
    }

    async fn check_volume(self, id: String, target: ProbeTarget) {
        let Some(MonitoredVolume {
            process,
            path,
            probes,
            ..
        }) = self.volumes.lock().get(&id).cloned()
        else {
            return;
        };
        let result = Some(probes.check(process, &path, target).await);
        let changed = match self.volumes.lock().get_mut(&id) {
            Some(now) if Arc::ptr_eq(&now.probes, &probes) && now.last != result => {
                now.last = result;
                true
            }
            _ => false,
        };
        if changed {
            self.notify(id);
        }
    }

    fn notify(&self, id: String) {
        // It fails only if no receiver exists.
        let _ = self.changes.send(id);
    }
}

/// The result of the check before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastCheck {
    /// It succeeded, or there was none.
    Passed,
    Failed,
}

impl LastCheck {
    fn of(failure: Option<&Error>) -> Self {
        failure.map_or(Self::Passed, |_| Self::Failed)
    }
}

/// The part that a round probes. An unhealthy mount is always probed up to the service.
fn target(round: u64, last: LastCheck) -> ProbeTarget {
    if round.is_multiple_of(SERVICE_EVERY) || last == LastCheck::Failed {
        ProbeTarget::Service
    } else {
        ProbeTarget::Mounter
    }
}
