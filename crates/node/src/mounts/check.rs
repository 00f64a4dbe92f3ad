//! Whether a mount answers. A probe that hangs blocks a thread until its mounter
//! answers or ends, so there is one of each kind per mount at most.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, fstatfs, open, statat, statfs};
use rustix::io::Errno;
use rustix::process::Signal;

use super::{Mounts, Record};
use crate::{Error, Process};

/// How long the mounter itself may need for an answer.
const LOCAL: Duration = Duration::from_secs(3);
/// How long the S3 service may need.
const REMOTE: Duration = Duration::from_secs(8);

/// After so many looks in a row a mounter that does not answer is ended.
const PATIENCE: u32 = 3;

/// Longest file of what a mounter says, in bytes.
const OUTPUT: u64 = 256 << 10;
/// Type of every FUSE file system (`statfs(2)`).
const FUSE: rustix::fs::FsWord = 0x6573_5546;

/// How a mount is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Fine,
    /// There is no mounter.
    Dead,
    /// There is one, and it does not answer, or the S3 service does not.
    Ill(Error),
}

/// The probes of one mount that are under way.
#[derive(Default)]
pub struct Probes {
    /// Held by who asks: what another one waits for is no silence.
    turn: tokio::sync::Mutex<()>,
    local: Arc<AtomicBool>,
    remote: Arc<AtomicBool>,
}

/// Who did not answer well.
#[derive(Debug)]
pub enum Asked {
    Mounter,
    Service,
}

impl Probes {
    /// Asks the mounter of what a process sees at a path, and if `remote` the S3
    /// service through it, for a sign of life. Takes 11 s at most.
    pub async fn ask(
        &self,
        process: Process,
        path: &Path,
        remote: bool,
    ) -> Result<(), (Asked, Trouble)> {
        let _turn = self.turn.lock().await;
        let point = inside(process, path);
        once(&self.local, LOCAL, statfs_of(point.clone()))
            .await
            .map_err(|trouble| (Asked::Mounter, trouble))?;
        if !remote {
            return Ok(());
        }
        once(&self.remote, REMOTE, move || absent(&point))
            .await
            .map_err(|trouble| (Asked::Service, trouble))
    }
}

impl Asked {
    /// What there is to say of its silence.
    pub fn silent(&self) -> Error {
        let (who, limit) = match self {
            Self::Mounter => ("the mounter", LOCAL),
            Self::Service => ("the S3 service", REMOTE),
        };
        Error::Unreachable(format!("{who} has not answered for {} s", limit.as_secs()))
    }
}

/// What is asked of a mount.
#[derive(Default)]
pub struct Outstanding {
    probes: Probes,
    process: Mutex<Option<Process>>,
    /// Whether it has answered once.
    answered: AtomicBool,
    /// Looks in a row at which the mounter did not answer.
    silent: AtomicU32,
}

impl Outstanding {
    /// The mounter, also while somebody holds its record.
    pub fn process(&self) -> Option<Process> {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, process: Process) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        self.silent.store(0, Ordering::Relaxed);
        self.answered.store(false, Ordering::Release);
    }

    /// That it has answered.
    pub fn answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// Whether it has answered and runs.
    pub fn lives(&self) -> bool {
        self.answered.load(Ordering::Acquire) && self.process().is_some_and(Process::runs)
    }
}

impl Mounts {
    /// Asks the mounter, and if `remote` the S3 service through it, for a sign of
    /// life. Takes 11 s at most. What the mounter answers alone it answers whatever
    /// the S3 service does; so one that is silent is stuck itself, and at its third
    /// silence in a row it is killed, to be made again. One whose S3 service hangs is
    /// left alone: another would hang as well, and what is being written be lost. Of
    /// one that is just being made there is nothing to say.
    pub async fn check(&self, id: &str, remote: bool) -> Health {
        let Some(slot) = self.known(id) else {
            return Health::Dead;
        };
        let Some(process) = slot.outstanding.process().filter(|process| process.runs()) else {
            return Health::Dead;
        };
        if !slot.outstanding.lives() {
            return Health::Fine;
        }
        self.bound_output(id);
        let (point, out) = (self.point(), &slot.outstanding);
        let answer = out.probes.ask(process, &point, remote).await;
        match answer {
            Err((Asked::Mounter, Trouble::Silent)) => {
                let before = out.silent.fetch_add(1, Ordering::Relaxed);
                rouse(id, process, before + 1);
            }
            _ => out.silent.store(0, Ordering::Relaxed),
        }
        match answer {
            Ok(()) => Health::Fine,
            Err((_, Trouble::Lost)) => Health::Dead,
            Err((_, Trouble::Says(error))) => Health::Ill(error),
            Err((who, Trouble::Silent)) => Health::Ill(who.silent()),
        }
    }
}

/// Does something about a mounter that does not answer.
fn rouse(id: &str, process: Process, silences: u32) {
    if silences >= PATIENCE {
        tracing::warn!(id, pid = process.pid, "a mounter is stuck and is killed");
        process.signal(Signal::KILL);
    } else if process.is_stopped() {
        // Nothing is lost where it only has to go on.
        tracing::warn!(id, pid = process.pid, "a mounter was stopped and goes on");
        process.signal(Signal::CONT);
    }
}

impl Mounts {
    /// Empties the file of what the mounter says when it has become long; it is
    /// only written at its end.
    fn bound_output(&self, id: &str) {
        let path = Record::new(id, &self.0.state).output(&self.0.state);
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > OUTPUT)
            && let Ok(file) = OpenOptions::new().write(true).open(&path)
        {
            // The next look tries again.
            let _ = file.set_len(0);
        }
    }
}

/// Why a probe has failed.
#[derive(Debug)]
pub enum Trouble {
    /// The mount has lost its server.
    Lost,
    /// No answer in time.
    Silent,
    /// An error.
    Says(Error),
}

/// Asks the mounter alone.
pub async fn local(process: Process, point: &Path, limit: Duration) -> Result<(), Trouble> {
    let one = Arc::default();
    once(&one, limit, statfs_of(inside(process, point))).await
}

/// Asks the S3 service through the mounter.
pub async fn remote(process: Process, point: &Path, limit: Duration) -> Result<(), Trouble> {
    let (one, point) = (Arc::default(), inside(process, point));
    once(&one, limit, move || absent(&point)).await
}

/// The mounter's mount, as this process reaches it.
fn inside(process: Process, point: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", process.pid, point.display()))
}

async fn once(
    outstanding: &Arc<AtomicBool>,
    limit: Duration,
    probe: impl FnOnce() -> Result<(), Errno> + Send + 'static,
) -> Result<(), Trouble> {
    if outstanding.swap(true, Ordering::AcqRel) {
        return Err(Trouble::Silent);
    }
    let done = outstanding.clone();
    let task = tokio::task::spawn_blocking(move || {
        let answer = probe();
        done.store(false, Ordering::Release);
        answer
    });
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(answer)) => answer.map_err(Trouble::from),
        Ok(Err(_)) | Err(_) => Err(Trouble::Silent),
    }
}

fn statfs_of(point: PathBuf) -> impl FnOnce() -> Result<(), Errno> + Send + 'static {
    move || statfs(&point).map(drop)
}

/// Looks for a name that nobody has. s3fs asks the S3 service for an object and
/// then lists what is below it, two keys at most: proof that reading and listing
/// work, whose cost does not grow with the bucket.
fn absent(point: &Path) -> Result<(), Errno> {
    // Held first: of a mounter that ends meanwhile the path is absent, too.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(point, flags, Mode::empty())?;
    // One that gives up unmounts first and ends a moment later.
    if fstatfs(&folder)?.f_type != FUSE {
        return Err(Errno::NOTCONN);
    }
    let name = format!(".hutch-{}", uuid::Uuid::new_v4().simple());
    match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        // Of what the service refuses s3fs says that it exists, with no permissions.
        Ok(_) => Err(Errno::ACCESS),
        Err(error) => Err(error),
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOTCONN | Errno::CONNABORTED | Errno::NOENT | Errno::SRCH | Errno::NODEV => {
                Self::Lost
            }
            Errno::PERM | Errno::ACCESS => Self::Says(Error::AccessDenied("403".to_owned())),
            _ => {
                let text = "the S3 service cannot be reached through the mount";
                Self::Says(Error::Unreachable(text.to_owned()))
            }
        }
    }
}
