//! The core: per id one mounter that is verified to answer, and the places that a
//! clone of its mount is in. Every call can be repeated, and what a SIGKILL
//! interrupts is finished or undone by the next process on the same state folder.
//! It knows nothing of sandboxes, volumes or the API server.

mod check;
mod known;
mod places;
mod record;
mod start;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;

use super::cgroup::Cgroups;
use super::mounter::Mounter;
use super::s3fs::S3fs;
use super::{Error, Source};
use hutch_core::names;

pub use check::Health;
use check::Outstanding;
pub(super) use check::{Probes, Trouble};
pub use known::Known;
pub use places::{Occupant, Place};
pub(super) use record::Record;
use start::MountMetrics;

/// What ids of mounts begin with that only try something.
const TRIAL: &str = "trial:";

/// How long a mounter has to end by itself: it may have something to send yet.
const END: Duration = Duration::from_secs(10);
/// Deaths that a slow listener may fall behind by.
const BACKLOG: usize = 256;

/// Where the core keeps what has to outlive this process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state folder, of this process alone.
    pub state: PathBuf,
    /// Certificates (PEM) of authorities that S3 services are trusted by, besides the
    /// system's.
    pub ca_file: Option<PathBuf>,
}

/// All mounts of one state folder. Cheap to clone.
#[derive(Clone)]
pub struct Mounts(Arc<Inner>);

struct Inner {
    state: PathBuf,
    mounter: Box<dyn Mounter>,
    cgroups: Cgroups,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    deaths: broadcast::Sender<String>,
    metrics: MountMetrics,
    /// Held for as long as this process uses the folder.
    _lock: File,
}

/// What there is under one id.
struct Slot {
    /// Held while something about it is changed.
    record: tokio::sync::Mutex<Record>,
    outstanding: Outstanding,
}

impl Mounts {
    /// Takes over the state folder with every mounter in it that an earlier
    /// process has left and that answers; the others are ended.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub async fn open(settings: Settings, registry: &mut Registry) -> Result<Self, Error> {
        let Settings { state, ca_file } = settings;
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
            mounter: Box::new(S3fs { ca_file }),
            cgroups: Cgroups::of(&format!("hutch-node-{digest}")),
            slots: Mutex::default(),
            deaths: broadcast::Sender::new(BACKLOG),
            metrics: MountMetrics::register(registry),
            _lock: lock,
            state,
        };
        let mounts = Self(Arc::new(inner));
        for record in record::all(&mounts.0.state) {
            if record.id.starts_with(TRIAL) {
                mounts.end(&record).await;
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
            self.slot(&id).outstanding.set(process);
            self.slot(&id).outstanding.answered();
        } else {
            self.end(&record).await;
        }
        let slot = self.slot(&id);
        *slot.record.lock().await = record;
    }

    /// Ids of everything that there is, mounted or not.
    pub fn ids(&self) -> Vec<String> {
        self.slots().keys().cloned().collect()
    }

    /// Whether there is a mounter that has answered and runs.
    pub fn lives(&self, id: &str) -> bool {
        self.known(id).is_some_and(|slot| slot.outstanding.lives())
    }

    /// Ids whose mounter has ended, as it happens.
    pub fn deaths(&self) -> broadcast::Receiver<String> {
        self.0.deaths.subscribe()
    }

    /// Sees to it that there is a mounter for `source` under `id`, and that it has
    /// answered once. Another source under that id is replaced, where nobody uses
    /// it; places of a mounter that has died wait for [`Self::attach`].
    ///
    /// # Errors
    /// Why it cannot be mounted, within 10 s; nothing of the attempt is left.
    pub async fn ensure(&self, id: &str, source: &Source) -> Result<(), Error> {
        let slot = self.slot(id);
        let mut record = slot.record.lock().await;
        if record.lives() && record.digest == source.digest() {
            return Ok(());
        }
        if record.lives() {
            self.leave_all(&mut record).await?;
            self.finish(&record).await;
        }
        self.end(&record).await;
        self.start(&mut record, source).await
    }

    /// Has the mount go on with `source`, its own but for the keys: these are tried
    /// first, and where they do not work it stays as it is. Its places are to be
    /// attached again. `false` where it has those keys already, or does not live.
    ///
    /// # Errors
    /// Why the keys do not work; [`Error::Busy`] where a process uses the mount, unless
    /// it is to be replaced `in_use`: then its mounter is killed.
    pub async fn rekey(&self, id: &str, source: &Source, in_use: bool) -> Result<bool, Error> {
        let slot = self.slot(id);
        {
            let record = slot.record.lock().await;
            if !record.lives() || record.digest == source.digest() {
                return Ok(false);
            }
        }
        let trial = format!("{TRIAL}{id}");
        let tried = self.ensure(&trial, source).await;
        self.close(&trial).await?;
        tried?;
        let mut record = slot.record.lock().await;
        if !in_use {
            self.leave_all(&mut record).await?;
            self.finish(&record).await;
        }
        self.end(&record).await;
        self.start(&mut record, source).await.map(|()| true)
    }

    /// Takes the mount out of all its places, ends its mounter once everything
    /// written is sent, and forgets the id. Unknown ids are no error.
    ///
    /// # Errors
    /// [`Error::Busy`] where a process uses it; then it stays as it is.
    pub async fn close(&self, id: &str) -> Result<(), Error> {
        let Some(slot) = self.known(id) else {
            return Ok(());
        };
        let mut record = slot.record.lock().await;
        self.leave_all(&mut record).await?;
        self.finish(&record).await;
        self.end(&record).await;
        self.forget(&record);
        Ok(())
    }

    /// The same at once and in any case: who still uses the mount gets an error,
    /// what is not sent yet is lost.
    pub async fn abort(&self, id: &str) {
        let Some(slot) = self.known(id) else { return };
        if let Some(process) = slot.outstanding.process() {
            // Whoever holds the record waits for this very process.
            process.signal(rustix::process::Signal::KILL);
        }
        let mut record = slot.record.lock().await;
        self.end(&record).await;
        // Those of a dead mounter are never busy.
        if let Err(error) = self.leave_all(&mut record).await {
            tracing::warn!(id, %error, "a dead mount stays where it is");
        }
        self.forget(&record);
    }

    /// Ends all there is: what is in use at once and in any case, after the rest had
    /// its time.
    pub async fn end_all(&self) {
        let ends = self.ids().into_iter().map(|id| async move {
            if let Err(error) = self.close(&id).await {
                tracing::warn!(id, %error, "ended a mount that is in use");
                self.abort(&id).await;
            }
        });
        join_all(ends).await;
    }

    /// Lets the mounter end by itself. What was queued before the probe has been
    /// taken up when that is answered, and what was taken up is finished.
    async fn finish(&self, record: &Record) {
        let Some(process) = record.process.filter(|_| record.lives()) else {
            return;
        };
        let _ = check::local(process, &self.point(), END / 2).await;
        process.signal(rustix::process::Signal::TERM);
        if tokio::time::timeout(END, process.ended()).await.is_err() {
            tracing::warn!(id = record.id, "a mounter does not end and is killed");
        }
    }

    /// Kills the mounter, if it still runs, and removes what it had.
    async fn end(&self, record: &Record) {
        if let Some(process) = record.process.filter(|process| process.runs()) {
            process.signal(rustix::process::Signal::KILL);
            if tokio::time::timeout(END, process.ended()).await.is_err() {
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

    fn forget(&self, record: &Record) {
        record.remove(&self.0.state);
        self.slots().remove(&record.id);
    }

    /// Tells of the mounter's end.
    fn watch(&self, id: &str, process: super::Process) {
        let (deaths, id) = (self.0.deaths.clone(), id.to_owned());
        tokio::spawn(async move {
            process.ended().await;
            // Without a listener there is nobody to tell.
            let _ = deaths.send(id);
        });
    }

    fn known(&self, id: &str) -> Option<Arc<Slot>> {
        self.slots().get(id).cloned()
    }

    fn slot(&self, id: &str) -> Arc<Slot> {
        let mut slots = self.slots();
        let slot = slots.entry(id.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                record: tokio::sync::Mutex::new(Record::new(id, &self.0.state)),
                outstanding: Outstanding::default(),
            })
        });
        slot.clone()
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where every mounter has its mount, in its own namespace.
    fn point(&self) -> PathBuf {
        super::errand::Start::point(&stage(&self.0.state))
    }
}

/// The folder over which every mounter has a tmpfs of its own. Always empty.
fn stage(state: &Path) -> PathBuf {
    state.join("stage")
}
