//! Whether a mount answers. A probe that hangs blocks a thread until its mounter
//! answers or ends, so there is one of each kind per mount at most.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, fstatfs, open, statat, statfs};
use rustix::io::Errno;

use super::{Mounts, Record};
use crate::node::{Error, Process};

/// How long the mounter itself may need for an answer.
const LOCAL: Duration = Duration::from_secs(3);
/// How long the S3 service may need.
const REMOTE: Duration = Duration::from_secs(8);

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

/// The probes that are under way.
#[derive(Default)]
pub struct Outstanding {
    local: Arc<AtomicBool>,
    remote: Arc<AtomicBool>,
    process: Mutex<Option<Process>>,
}

impl Outstanding {
    /// The mounter, also while somebody holds its record.
    pub fn process(&self) -> Option<Process> {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, process: Process) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }
}

impl Mounts {
    /// Asks the mounter, and if `remote` the S3 service through it, for a sign of
    /// life. Takes 11 s at most.
    pub async fn check(&self, id: &str, remote: bool) -> Health {
        let Some(slot) = self.known(id) else {
            return Health::Dead;
        };
        let Some(process) = slot.outstanding.process().filter(|process| process.runs()) else {
            return Health::Dead;
        };
        self.bound_output(id);
        let point = inside(process, &self.point());
        let stat = statfs_of(point.clone());
        match once(&slot.outstanding.local, LOCAL, stat).await {
            Ok(()) if remote => {}
            Ok(()) => return Health::Fine,
            Err(Trouble::Lost) => return Health::Dead,
            Err(Trouble::Says(error)) => return Health::Ill(error),
            Err(Trouble::Silent) => return Health::Ill(silent("the mounter", LOCAL)),
        }
        match once(&slot.outstanding.remote, REMOTE, move || absent(&point)).await {
            Ok(()) => Health::Fine,
            Err(Trouble::Lost) => Health::Dead,
            Err(Trouble::Says(error)) => Health::Ill(error),
            Err(Trouble::Silent) => Health::Ill(silent("the S3 service", REMOTE)),
        }
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

fn silent(who: &str, limit: Duration) -> Error {
    Error::Unreachable(format!("{who} has not answered for {} s", limit.as_secs()))
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

/// Whether the file system at a path that a process sees has a server that answers.
pub async fn answers(process: Process, path: &Path) -> bool {
    local(process, path, LOCAL).await.is_ok()
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
        Err(Errno::NOENT) | Ok(_) => Ok(()),
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
