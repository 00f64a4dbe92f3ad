//! A background process. It is started detached, recorded in a file by pid and start time,
//! and stopped with SIGTERM and then SIGKILL.
//!
//! A recycled pid has another start time, so it is never signalled. A zombie counts as
//! ended, because the machine's PID 1 may never reap it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use crate::shell;

/// A process to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program and its arguments; a program without `/` is looked up on PATH.
    pub argv: Vec<OsString>,
    /// Added to the environment of the caller.
    pub env: BTreeMap<String, OsString>,
    /// The working directory. Default: the caller's.
    pub dir: Option<PathBuf>,
    /// The file that standard output and error are appended to.
    pub log: PathBuf,
    /// The file that the process is recorded in.
    pub record: PathBuf,
}

impl Spec {
    /// A program without arguments, logged to `log` and recorded in `record`.
    pub fn new(
        program: impl AsRef<OsStr>,
        log: impl Into<PathBuf>,
        record: impl Into<PathBuf>,
    ) -> Self {
        let argv = vec![program.as_ref().to_os_string()];
        Self {
            argv,
            env: BTreeMap::new(),
            dir: None,
            log: log.into(),
            record: record.into(),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.argv.push(argument.as_ref().to_os_string());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_os_string()),
        );
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(name.to_owned(), value.as_ref().to_os_string());
        self
    }
}

/// A process that outlives its starter. Dropping this does not stop it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    identity: Identity,
    record: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    started: u64,
    /// After a reboot, a pid and a start time can both occur again.
    boot: String,
}

impl Daemon {
    /// Starts a process in its own session and records it. Refuses if the record names a
    /// process that is still alive.
    pub fn spawn(spec: &Spec) -> Result<Self> {
        Self::refuse_second(&spec.record)?;
        let log = OpenOptions::new().create(true).append(true).open(&spec.log);
        let log = log.with_context(|| format!("opening {}", spec.log.display()))?;
        // setsid(1) does not fork here, because a new child leads no process group. So the
        // pid stays the same, and no unsafe hook between fork and exec is needed.
        let mut command = Command::new("setsid");
        command
            .args(&spec.argv)
            .envs(&spec.env)
            .stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        if let Some(dir) = &spec.dir {
            command.current_dir(dir);
        }
        let name = spec
            .argv
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Self::adopt(i32::try_from(child.id())?, &spec.record)
    }

    /// Records a process that the supervisor has just started.
    pub(crate) fn adopt(pid: i32, record: &Path) -> Result<Self> {
        let (_, started) = look_up(pid).with_context(|| format!("process {pid} ended at once"))?;
        let daemon = Self {
            identity: Identity {
                pid,
                started,
                boot: boot_id(),
            },
            record: record.to_path_buf(),
        };
        let partial = record.with_extension("partial");
        fs::write(&partial, serde_json::to_vec(&daemon.identity)?)?;
        fs::rename(&partial, record).with_context(|| format!("writing {}", record.display()))?;
        Ok(daemon)
    }

    pub(crate) fn refuse_second(record: &Path) -> Result<()> {
        match Self::recorded(record) {
            Some(daemon) if daemon.is_alive() => {
                bail!(
                    "process {} of {} is still alive",
                    daemon.pid(),
                    record.display()
                )
            }
            _ => Ok(()),
        }
    }

    /// The process that a record names, alive or not.
    pub fn recorded(record: &Path) -> Option<Self> {
        let identity = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        Some(Self {
            identity,
            record: record.to_path_buf(),
        })
    }

    /// Its pid. If not `is_alive`, another process may have it now.
    pub fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// True if this process still runs. Another process with the same pid does not count.
    pub fn is_alive(&self) -> bool {
        let same = look_up(self.identity.pid).is_some_and(|(state, started)| {
            started == self.identity.started && state != 'Z' && state != 'X'
        });
        same && self.identity.boot == boot_id()
    }

    /// Sends a signal if the process is alive. An ended process is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let Some(pid) = Pid::from_raw(self.identity.pid) else {
            return Ok(());
        };
        match rustix::process::kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("signalling process {}", self.identity.pid))
            }
        }
    }

    /// Waits until it has ended. Returns false after `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            // Reaps it if it is a child of this process. Otherwise this fails with ECHILD.
            if let Some(pid) = Pid::from_raw(self.identity.pid) {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            }
            if !self.is_alive() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM, and SIGKILL if it has not ended within `grace`. Then removes the record.
    /// An ended process is no error.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        if !self.wait(grace) {
            return self.kill();
        }
        shell::ignore_missing(fs::remove_file(&self.record))
    }

    /// Sends SIGKILL, waits up to 10 s for the end, and removes the record.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if !self.wait(Duration::from_secs(10)) {
            bail!("process {} survived SIGKILL", self.identity.pid);
        }
        shell::ignore_missing(fs::remove_file(&self.record))
    }
}

/// State and start time of a process. The name before them can contain parentheses and
/// spaces, so the search starts from the right.
fn look_up(pid: i32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_confuse_the_parser() {
        let stat = "7 (a) S 1 (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
    }

    #[test]
    fn a_process_is_found_again_and_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("sleep.json");
        let spec = Spec::new("sleep", directory.path().join("log"), &record).arg("60");
        let daemon = Daemon::spawn(&spec).unwrap();
        assert_eq!(Daemon::recorded(&record), Some(daemon.clone()));
        assert!(daemon.is_alive());
        assert!(Daemon::spawn(&spec).is_err(), "one record, one process");
        daemon.stop(Duration::from_secs(5)).unwrap();
        assert!(!daemon.is_alive() && !record.exists());
        daemon.stop(Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let spec = Spec::new("sh", &log, directory.path().join("record"));
        let daemon =
            Daemon::spawn(&spec.args(["-c", "trap '' TERM; echo on; while :; do sleep 1; done"]))
                .unwrap();
        while fs::read_to_string(&log).unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon.stop(Duration::from_millis(50)).unwrap();
        assert!(!daemon.is_alive());
    }

    #[test]
    fn a_recycled_pid_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("record");
        let own = i32::try_from(std::process::id()).unwrap();
        let mut daemon = Daemon::adopt(own, &record).unwrap();
        assert!(daemon.is_alive());
        daemon.identity.started += 1;
        assert!(!daemon.is_alive());
        daemon.signal(Signal::KILL).unwrap();
    }
}
