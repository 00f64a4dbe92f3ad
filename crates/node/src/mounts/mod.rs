//! The core: for each ID one verified mounter, and the targets where a clone of its mount is
//! attached. Every call can be repeated. If SIGKILL interrupts a call, the next process with
//! the same state directory finishes it or undoes it. The module knows nothing of sandboxes,
//! volumes or the API server.
//!
//! `start` starts a mounter and verifies it, `attachments` attaches and detaches, `check` probes,
//! `record` stores a mount for the next process, `snapshot` is for readers.

mod attachments;
mod check;
mod record;
mod snapshot;
mod start;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;

use super::cgroup::Cgroups;
use super::s3fs::S3fs;
use super::{Error, Source};
use hutch_core::names;
use hutch_core::sync::Lock;

pub use attachments::{MountTarget, MountedBucket};
pub use check::Health;
use check::Liveness;
pub(super) use check::{ProbeTarget, Probes};
pub(super) use record::Record;
pub use snapshot::Snapshot;
use start::MountMetrics;

/// Prefix of the IDs of trial mounts, which only test new credentials.
const TRIAL_PREFIX: &str = "trial:";

/// Timeout of a mounter's end. It may still have data to send.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Deaths by which a slow receiver may fall behind before it misses some.
const BACKLOG: usize = 256;

/// Settings of the core.
#[derive(Clone, Debug)]
pub struct MountSettings {
    /// The state directory. Only one process may use it.
    pub state: PathBuf,
    /// A PEM file of certificate authorities that are trusted for S3 services beside the
    /// system's.
    pub ca_file: Option<PathBuf>,
}

/// All mounts of one state directory. Cheap to clone.
#[derive(Clone)]
pub struct Mounts(Arc<Inner>);

struct Inner {
    state: PathBuf,
    mounter: S3fs,
    cgroups: Cgroups,
    slots: Lock<HashMap<String, Arc<Slot>>>,
    deaths: broadcast::Sender<String>,
    metrics: MountMetrics,
    /// Locked as long as this process uses the state directory.
    _lock: File,
}

/// One mount.
struct Slot {
    /// Locked during each change of the mount.
    record: tokio::sync::Mutex<Record>,
    liveness: Liveness,
}

/// The result of [`Mounts::rekey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rekeyed {
    /// The mount has the new credentials.
    Replaced,
    /// It has these credentials already, or has no mounter.
    Unchanged,
}

/// The handling of a mount that a process uses, for [`Mounts::rekey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// It fails with [`Error::Busy`] and leaves the mount as it is.
    Refuse,
    /// It kills the mounter. Open files of the mount then return errors.
    Kill,
}

impl Mounts {
    /// Takes over the state directory. Verified mounters of an earlier process that still
    /// run are kept; the others are ended.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process uses it.
    pub async fn open(settings: MountSettings, registry: &mut Registry) -> Result<Self, Error> {
        let MountSettings { state, ca_file } = settings;
        fs::create_dir_all(state.join("mounts"))?;
        fs::create_dir_all(stage(&state))?;
        let state = state.canonicalize()?;
        let lock = File::create(state.join("lock"))?;
        lock.try_lock().map_err(|_| {
            let state = state.display();
            Error::Mounter(format!("{state} is used by another process"))
        })?;
        let digest = names::digest(state.as_os_str().as_encoded_bytes(), 8);
        let inner = Inner {
            mounter: S3fs { ca_file },
            cgroups: Cgroups::of(&format!("hutch-node-{digest}")),
            slots: Lock::default(),
            deaths: broadcast::Sender::new(BACKLOG),
            metrics: MountMetrics::register(registry),
            _lock: lock,
            state,
        };
        let mounts = Self(Arc::new(inner));
        for record in record::all(&mounts.0.state) {
            if record.id.starts_with(TRIAL_PREFIX) {
                mounts.kill_mounter(&record).await;
                record.remove(&mounts.0.state);
            } else {
                mounts.adopt(record).await;
            }
        }
        Ok(mounts)
    }

    async fn adopt(&self, record: Record) {
        let runs = record.process.filter(|process| process.runs());
        let id = record.id.clone();
        if let Some(process) = runs.filter(|_| record.verified) {
            tracing::info!(id, pid = process.pid, "took over a mount");
            self.watch(&id, process);
            self.slot(&id).liveness.set_process(process);
            self.slot(&id).liveness.set_answered();
        } else {
            self.kill_mounter(&record).await;
        }
        let slot = self.slot(&id);
        *slot.record.lock().await = record;
    }

    /// The IDs of all mounts, with those whose mounter has died.
    pub fn ids(&self) -> Vec<String> {
        self.0.slots.lock().keys().cloned().collect()
    }

    /// True if the mount's mounter has answered and runs.
    pub fn is_alive(&self, id: &str) -> bool {
        self.get(id).is_some_and(|slot| slot.liveness.is_alive())
    }

    /// Receives the ID of each mount whose mounter ends.
    pub fn deaths(&self) -> broadcast::Receiver<String> {
        self.0.deaths.subscribe()
    }

    /// Ensures that `id` has a verified mounter for `source`. A mounter for another source is
    /// replaced if no process uses its mount. After a replacement of a dead mounter, the
    /// caller must call [`Self::attach`] for each target.
    ///
    /// # Errors
    /// The reason why it cannot be mounted, within 10 s. A failed attempt leaves nothing.
    pub async fn ensure(&self, id: &str, source: &Source) -> Result<(), Error> {
        let slot = self.slot(id);
        let mut record = slot.record.lock().await;
        if record.is_alive() && record.digest == source.digest() {
            return Ok(());
        }
        if record.is_alive() {
            self.detach_all(&mut record).await?;
            self.stop_mounter(&record).await;
        }
        self.kill_mounter(&record).await;
        self.start(&mut record, source).await
    }

    /// Replaces the mount's credentials with those of `source`. A trial mount tests them
    /// first; if they do not work, the mount stays as it is. After a replacement, the caller
    /// must attach the targets again.
    ///
    /// # Errors
    /// The reason why the credentials do not work. [`Error::Busy`] if a process uses the
    /// mount and `in_use` is [`InUse::Refuse`].
    pub async fn rekey(&self, id: &str, source: &Source, in_use: InUse) -> Result<Rekeyed, Error> {
        let slot = self.slot(id);
        {
            let record = slot.record.lock().await;
            if !record.is_alive() || record.digest == source.digest() {
                return Ok(Rekeyed::Unchanged);
            }
        }
        let trial = format!("{TRIAL_PREFIX}{id}");
        let tried = self.ensure(&trial, source).await;
        self.close(&trial).await?;
        tried?;
        let mut record = slot.record.lock().await;
        if in_use == InUse::Refuse {
            self.detach_all(&mut record).await?;
            self.stop_mounter(&record).await;
        }
        self.kill_mounter(&record).await;
        self.start(&mut record, source).await?;
        Ok(Rekeyed::Replaced)
    }

    /// Detaches the mount from all its targets, ends its mounter when it has sent all data,
    /// and removes the record. An unknown ID is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] if a process uses it. Then its mounter keeps running.
    pub async fn close(&self, id: &str) -> Result<(), Error> {
        let Some(slot) = self.get(id) else {
            return Ok(());
        };
        let mut record = slot.record.lock().await;
        self.detach_all(&mut record).await?;
        self.stop_mounter(&record).await;
        self.kill_mounter(&record).await;
        self.remove_record(&record);
        Ok(())
    }

    /// Like [`Self::close`], but at once, even if the mount is in use. Processes that use it
    /// get errors, and data that is not sent yet is lost.
    pub async fn abort(&self, id: &str) {
        let Some(slot) = self.get(id) else { return };
        if let Some(process) = slot.liveness.process() {
            // A call that holds the record may wait for this process, so it is killed before
            // the record is locked.
            process.signal(rustix::process::Signal::KILL);
        }
        let mut record = slot.record.lock().await;
        self.kill_mounter(&record).await;
        // A dead mounter's mount is never busy, because it is unmounted lazily.
        if let Err(error) = self.detach_all(&mut record).await {
            tracing::warn!(id, %error, "a dead mount is not detached");
        }
        self.remove_record(&record);
    }

    /// Ends all mounts. A mount that cannot be closed because it is in use is aborted.
    pub async fn end_all(&self) {
        let ends = self.ids().into_iter().map(|id| async move {
            if let Err(error) = self.close(&id).await {
                tracing::warn!(id, %error, "ended a mount that is in use");
                self.abort(&id).await;
            }
        });
        join_all(ends).await;
    }

    /// Stops the mounter and lets it send its data. The mounter takes up requests in order. So when the
    /// probe is answered, it has taken up all earlier requests, and it finishes those before
    /// it ends.
    async fn stop_mounter(&self, record: &Record) {
        let Some(process) = record.process.filter(|_| record.is_alive()) else {
            return;
        };
        let _ = check::probe_mounter(process, &self.point(), END_TIMEOUT / 2).await;
        process.signal(rustix::process::Signal::TERM);
        let ended = tokio::time::timeout(END_TIMEOUT, process.ended()).await;
        if ended.is_err() {
            tracing::warn!(id = record.id, "a mounter does not end and is killed");
        }
    }

    /// Kills the mounter if it still runs, and removes its cgroups.
    async fn kill_mounter(&self, record: &Record) {
        if let Some(process) = record.process.filter(|process| process.runs()) {
            process.signal(rustix::process::Signal::KILL);
            let ended = tokio::time::timeout(END_TIMEOUT, process.ended()).await;
            if ended.is_err() {
                tracing::error!(
                    id = record.id,
                    pid = process.pid,
                    "a mounter survives SIGKILL"
                );
            }
        }
        let (cgroups, key) = (self.0.cgroups.clone(), record.key.clone());
        let _ = tokio::task::spawn_blocking(move || cgroups.remove(&key)).await;
    }

    fn remove_record(&self, record: &Record) {
        record.remove(&self.0.state);
        self.0.slots.lock().remove(&record.id);
    }

    /// Publishes the mounter's end to the receivers of [`Self::deaths`].
    fn watch(&self, id: &str, process: super::Process) {
        let (deaths, id) = (self.0.deaths.clone(), id.to_owned());
        tokio::spawn(async move {
            process.ended().await;
            // It fails only if no receiver exists.
            let _ = deaths.send(id);
        });
    }

    fn get(&self, id: &str) -> Option<Arc<Slot>> {
        self.0.slots.lock().get(id).cloned()
    }

    fn slot(&self, id: &str) -> Arc<Slot> {
        let mut slots = self.0.slots.lock();
        let slot = slots.entry(id.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                record: tokio::sync::Mutex::new(Record::new(id, &self.0.state)),
                liveness: Liveness::default(),
            })
        });
        slot.clone()
    }

    /// The mount point of every mounter, each in its own namespace.
    fn point(&self) -> PathBuf {
        super::ns_helper::Start::point(&stage(&self.0.state))
    }
}

/// The directory on which every mounter mounts its own tmpfs. It is always empty in the
/// host's namespace.
fn stage(state: &Path) -> PathBuf {
    state.join("stage")
}
