//! Probes mounts. A probe that hangs blocks a thread until its mounter answers or ends. So
//! each mount has at most one running probe per [`ProbeTarget`].

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, fstatfs, open, statat, statfs};
use rustix::io::Errno;
use rustix::process::Signal;

use super::{Mounts, Record};
use crate::{Error, Process};
use hutch_core::sync::Lock;

/// Timeout of an answer that the mounter gives without the S3 service.
const MOUNTER_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of an answer of the S3 service.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(8);

/// A mounter that fails this many probes in a row is killed.
const MAX_SILENT_PROBES: u32 = 3;

/// Largest log file of a mounter, in bytes.
const MAX_OUTPUT_BYTES: u64 = 256 << 10;
/// Type of every FUSE file system (`statfs(2)`).
const FUSE: rustix::fs::FsWord = 0x6573_5546;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Healthy,
    /// No mounter runs.
    Dead,
    /// The mounter runs, but it or the S3 service does not answer well.
    Unhealthy(Error),
}

/// The probes of one mount.
#[derive(Default)]
pub struct Probes {
    /// Held during a probe. So the time that a caller waits for another caller's probe does
    /// not count towards its timeout.
    probing: tokio::sync::Mutex<()>,
    /// True while a probe of the mounter runs, even after its caller has timed out.
    mounter: Arc<AtomicBool>,
    /// The same for the service.
    service: Arc<AtomicBool>,
}

/// The part that a probe reaches. A probe of the service goes through the mounter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeTarget {
    Mounter,
    Service,
}

impl Probes {
    /// Probes the mount that a process sees at a path: first the mounter, then, if `target`
    /// is the service, the S3 service through it. It takes 11 s at most. An error names the
    /// part that failed.
    pub async fn run(
        &self,
        process: Process,
        path: &Path,
        target: ProbeTarget,
    ) -> Result<(), (ProbeTarget, ProbeError)> {
        let _guard = self.probing.lock().await;
        let point = path_in(process, path);
        once(&self.mounter, MOUNTER_TIMEOUT, statfs_of(point.clone()))
            .await
            .map_err(|error| (ProbeTarget::Mounter, error))?;
        if target == ProbeTarget::Mounter {
            return Ok(());
        }
        once(&self.service, SERVICE_TIMEOUT, move || {
            look_up_random(&point)
        })
        .await
        .map_err(|error| (ProbeTarget::Service, error))
    }

    /// Like [`Self::run`], for a mount of any driver, with the error for the sandbox's status.
    pub async fn check(
        &self,
        process: Process,
        path: &Path,
        target: ProbeTarget,
    ) -> Result<(), Error> {
        match self.run(process, path, target).await {
            Ok(()) => Ok(()),
            Err((part, ProbeError::Timeout)) => Err(part.timeout_error()),
            Err((_, ProbeError::Failed(error))) => Err(error),
            Err((_, ProbeError::Lost)) => Err(Error::Mounter(format!(
                "the mount at {} has lost its mounter",
                path.display()
            ))),
        }
    }
}

impl ProbeTarget {
    /// The error for a probe of this part that timed out.
    pub fn timeout_error(self) -> Error {
        let (part, limit) = match self {
            Self::Mounter => ("the mounter", MOUNTER_TIMEOUT),
            Self::Service => ("the S3 service", SERVICE_TIMEOUT),
        };
        Error::Unreachable(format!("{part} has not answered for {} s", limit.as_secs()))
    }
}

/// The state of one mount's checks. It is readable while the mount's record is locked.
#[derive(Default)]
pub struct Liveness {
    probes: Probes,
    process: Lock<Option<Process>>,
    /// True if the mounter has answered once.
    answered: AtomicBool,
    /// The number of probes in a row that the mounter did not answer.
    silent: AtomicU32,
}

impl Liveness {
    /// The mounter. It may have ended.
    pub fn process(&self) -> Option<Process> {
        *self.process.lock()
    }

    /// Starts anew with another mounter, which has not answered yet.
    pub fn set_process(&self, process: Process) {
        *self.process.lock() = Some(process);
        self.silent.store(0, Ordering::Relaxed);
        self.answered.store(false, Ordering::Release);
    }

    /// Records that the mounter has answered.
    pub fn set_answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// True if the mounter has answered and runs.
    pub fn is_alive(&self) -> bool {
        self.answered.load(Ordering::Acquire) && self.process().is_some_and(Process::runs)
    }
}

impl Mounts {
    /// Probes the mounter and, if `target` is the service, the S3 service through it. It
    /// takes 11 s at most. A mount that is still being started counts as healthy.
    ///
    /// The mounter's own answer does not depend on the S3 service. So a mounter that fails
    /// this probe is stuck itself. It is killed at the third failure in a row, and the
    /// users of this module start another. A mounter whose S3 service hangs is left alone: a
    /// new one would hang as well, and data that is being written would be lost.
    pub async fn check(&self, id: &str, target: ProbeTarget) -> Health {
        let Some(slot) = self.get(id) else {
            return Health::Dead;
        };
        let Some(process) = slot.liveness.process().filter(|process| process.runs()) else {
            return Health::Dead;
        };
        if !slot.liveness.is_alive() {
            return Health::Healthy;
        }
        self.truncate_output(id);
        let (point, live) = (self.point(), &slot.liveness);
        let answer = live.probes.run(process, &point, target).await;
        match answer {
            Err((ProbeTarget::Mounter, ProbeError::Timeout)) => {
                let silences = live.silent.fetch_add(1, Ordering::Relaxed) + 1;
                resume_or_kill(id, process, silences);
            }
            _ => live.silent.store(0, Ordering::Relaxed),
        }
        match answer {
            Ok(()) => Health::Healthy,
            Err((_, ProbeError::Lost)) => Health::Dead,
            Err((_, ProbeError::Failed(error))) => Health::Unhealthy(error),
            Err((part, ProbeError::Timeout)) => Health::Unhealthy(part.timeout_error()),
        }
    }

    /// Empties the mounter's log file if it is too long. The mounter appends to it, so it
    /// continues at the start.
    fn truncate_output(&self, id: &str) {
        let path = Record::new(id, &self.0.state).output(&self.0.state);
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > MAX_OUTPUT_BYTES)
            && let Ok(file) = OpenOptions::new().write(true).open(&path)
        {
            // After an error the next check tries again.
            let _ = file.set_len(0);
        }
    }
}

/// Kills a mounter that has not answered `silences` probes in a row, or continues it if it is
/// only stopped.
fn resume_or_kill(id: &str, process: Process, silences: u32) {
    if silences >= MAX_SILENT_PROBES {
        tracing::warn!(id, pid = process.pid, "a mounter is stuck and is killed");
        process.signal(Signal::KILL);
    } else if process.is_stopped() {
        // A stopped mounter loses nothing when it continues.
        tracing::warn!(
            id,
            pid = process.pid,
            "a mounter was stopped and is continued"
        );
        process.signal(Signal::CONT);
    }
}

/// The reason why a probe failed.
#[derive(Debug)]
pub enum ProbeError {
    /// The mount has lost its mounter.
    Lost,
    /// No answer in time.
    Timeout,
    /// The answer is an error.
    Failed(Error),
}

/// Probes the mounter alone.
pub async fn probe_mounter(
    process: Process,
    point: &Path,
    limit: Duration,
) -> Result<(), ProbeError> {
    let running = Arc::default();
    once(&running, limit, statfs_of(path_in(process, point))).await
}

/// Probes the S3 service through the mounter.
pub async fn probe_service(
    process: Process,
    point: &Path,
    limit: Duration,
) -> Result<(), ProbeError> {
    let (running, point) = (Arc::default(), path_in(process, point));
    once(&running, limit, move || look_up_random(&point)).await
}

/// The path by which this process reaches a path in another process's mount namespace.
fn path_in(process: Process, point: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", process.pid, point.display()))
}

/// Runs a probe on a thread of its own, unless an earlier one is still `running`: then it
/// counts as a timeout.
async fn once(
    running: &Arc<AtomicBool>,
    limit: Duration,
    probe: impl FnOnce() -> Result<(), Errno> + Send + 'static,
) -> Result<(), ProbeError> {
    if running.swap(true, Ordering::AcqRel) {
        return Err(ProbeError::Timeout);
    }
    let finished = running.clone();
    let task = tokio::task::spawn_blocking(move || {
        let answer = probe();
        finished.store(false, Ordering::Release);
        answer
    });
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(answer)) => answer.map_err(ProbeError::from),
        Ok(Err(_)) | Err(_) => Err(ProbeError::Timeout),
    }
}

fn statfs_of(point: PathBuf) -> impl FnOnce() -> Result<(), Errno> + Send + 'static {
    move || statfs(&point).map(drop)
}

/// Looks up a random name and expects that it does not exist. s3fs requests the object and
/// then lists at most two keys below it. That proves that reading and listing work, and its
/// cost does not grow with the bucket.
fn look_up_random(point: &Path) -> Result<(), Errno> {
    // The directory is opened first: if the mounter ended meanwhile, a path lookup would
    // also find nothing.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(point, flags, Mode::empty())?;
    // A mounter that gives up unmounts first and ends a moment later.
    if fstatfs(&directory)?.f_type != FUSE {
        return Err(Errno::NOTCONN);
    }
    let name = format!(".hutch-{}", uuid::Uuid::new_v4().simple());
    match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        // If the service refuses access, s3fs reports an existing file without permissions.
        Ok(_) => Err(Errno::ACCESS),
        Err(error) => Err(error),
    }
}

impl From<Errno> for ProbeError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOTCONN | Errno::CONNABORTED | Errno::NOENT | Errno::SRCH | Errno::NODEV => {
                Self::Lost
            }
            Errno::PERM | Errno::ACCESS => Self::Failed(Error::AccessDenied("403".to_owned())),
            _ => {
                let text = "the S3 service cannot be reached through the mount";
                Self::Failed(Error::Unreachable(text.to_owned()))
            }
        }
    }
}
