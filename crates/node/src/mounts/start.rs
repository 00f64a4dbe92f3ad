//! Starts a mounter and verifies that it answers.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Once;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::record::Record;
use super::{Mounts, check, stage};
use crate::ns_helper::{self, Start, Task};
use crate::s3fs::S3fs;
use crate::{Error, Process, Source, endpoint, mountinfo};

/// Timeout of a mount in total.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks for the mount in the mounter's namespace.
const POLL_INTERVAL: Duration = Duration::from_millis(4);
/// Largest part at the end of the mounter's log that is read for an explanation.
const MAX_OUTPUT_BYTES: usize = 16 << 10;

impl Mounts {
    /// Starts a mounter for `source` and waits until it has answered.
    pub(super) async fn start(&self, record: &mut Record, source: &Source) -> Result<(), Error> {
        let begun = Instant::now();
        let started = self.try_start(record, source, begun).await;
        let metrics = &self.0.metrics;
        match &started {
            Ok(()) => {
                metrics.mounts.inc();
                metrics.seconds.observe(begun.elapsed().as_secs_f64());
            }
            Err(error) => {
                self.kill_mounter(record).await;
                record.process = None;
                record.verified = false;
                if record.attachments.is_empty() {
                    record.remove(&self.0.state);
                } else {
                    record.save(&record.file(&self.0.state))?;
                }
                let reason = error.reason().as_str();
                metrics.failures.get_or_create(&Labels { reason }).inc();
            }
        }
        started
    }

    async fn try_start(
        &self,
        record: &mut Record,
        source: &Source,
        begun: Instant,
    ) -> Result<(), Error> {
        endpoint::check(&source.endpoint).await?;
        let start = self.start_task(record, source)?;
        let mut child = self.spawn(record)?;
        // The record gets the process before the first await, because the caller may drop
        // this future at any time. Tokio reaps a child that is not waited for.
        record.process = child.id().and_then(Process::of);
        send_task(&mut child, start).await?;
        let process = record.process.ok_or_else(|| self.explain(record, source))?;
        self.slot(&record.id).liveness.set_process(process);
        let left = || MOUNT_TIMEOUT.saturating_sub(begun.elapsed());
        tokio::select! {
            mounted = self.wait_answered(record, process, left()) => mounted,
            _ = child.wait() => Err(StartError::Ended),
        }
        .map_err(|error| self.start_error(error, record, source))?;
        self.set_verified(record, process)
    }

    /// The task for the helper that becomes the mounter. It prepares the record and the
    /// cgroups for it.
    fn start_task(&self, record: &mut Record, source: &Source) -> Result<Start, Error> {
        let (state, mounter) = (&self.0.state, &self.0.mounter);
        let stage = stage(state);
        let key_file = Start::key_file(&stage);
        let command = mounter.command(source, &record.label(), &self.point(), &key_file)?;
        let (cgroups, errors) = self.0.cgroups.create(&record.key);
        warn_once(&errors);
        record.process = None;
        record.verified = false;
        record.digest = source.digest();
        Ok(Start {
            stage,
            key_file_content: S3fs::key_file_content(source),
            command,
            environment: mounter.environment(),
            cgroups,
            record: record.clone(),
            file: record.file(state),
        })
    }

    /// Records that the mounter has answered, and removes its credentials file.
    fn set_verified(&self, record: &mut Record, process: Process) -> Result<(), Error> {
        let state = &self.0.state;
        let key_file = Start::key_file(&stage(state));
        // s3fs has read the credentials. Without the file, nobody can read them later.
        std::fs::remove_file(format!("/proc/{}/root{}", process.pid, key_file.display()))?;
        record.verified = true;
        record.save(&record.file(state))?;
        self.slot(&record.id).liveness.set_answered();
        self.watch(&record.id, process);
        Ok(())
    }

    fn start_error(&self, error: StartError, record: &Record, source: &Source) -> Error {
        match error {
            StartError::Ended => self.explain(record, source),
            StartError::Timeout => Error::Unreachable(format!(
                "{} has not answered for {} s",
                source.endpoint,
                MOUNT_TIMEOUT.as_secs()
            )),
            StartError::Failed(error) => error,
        }
    }

    /// Spawns a helper that becomes the mounter when it receives its task.
    fn spawn(&self, record: &Record) -> Result<Child, Error> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(record.output(&self.0.state))?;
        output.set_len(0)?;
        let mut command = Command::new(ns_helper::OWN_PROGRAM);
        command
            .arg(ns_helper::COMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command.spawn()?)
    }

    /// Waits until the mount exists and the S3 service has answered through it.
    async fn wait_answered(
        &self,
        record: &mut Record,
        process: Process,
        limit: Duration,
    ) -> Result<(), StartError> {
        let (label, begun) = (record.label(), Instant::now());
        let point = self.point();
        // The mount point is compared too: before the process has its own namespace, it may
        // see clones of an earlier mounter's mount with the same label.
        let is_own = |entry: &mountinfo::MountEntry| {
            entry.source == label && Path::new(&entry.point) == point
        };
        let mounted = async {
            loop {
                let mounts = mountinfo::of(process.pid).unwrap_or_default();
                if let Some(own) = mounts.into_iter().find(is_own) {
                    return own.device;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let device = tokio::time::timeout(limit, mounted).await;
        record.device = device.map_err(|_| StartError::Timeout)?;
        let left = limit.saturating_sub(begun.elapsed());
        match check::probe_service(process, &self.point(), left).await {
            Ok(()) => Ok(()),
            Err(check::ProbeError::Timeout) => Err(StartError::Timeout),
            Err(check::ProbeError::Failed(error)) => Err(StartError::Failed(error)),
            Err(check::ProbeError::Lost) => {
                // The mounter is about to end. Its complete output gives the reason.
                let _ = tokio::time::timeout(left, process.ended()).await;
                Err(StartError::Ended)
            }
        }
    }

    /// Derives the reason why the mounter has ended from its log.
    fn explain(&self, record: &Record, source: &Source) -> Error {
        let output = std::fs::read(record.output(&self.0.state)).unwrap_or_default();
        let tail = &output[output.len().saturating_sub(MAX_OUTPUT_BYTES)..];
        S3fs::explain(source, &String::from_utf8_lossy(tail))
    }
}

async fn send_task(child: &mut Child, start: Start) -> Result<(), Error> {
    let task = serde_json::to_vec(&Task::Start(start)).map_err(std::io::Error::from)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&task).await?;
    }
    Ok(())
}

/// The reason why a started mounter is not verified.
enum StartError {
    /// It has ended. Its log gives the reason.
    Ended,
    Timeout,
    Failed(Error),
}

/// Logs once that mounters share this process's cgroup and may end with it.
fn warn_once(errors: &[String]) {
    static ONCE: Once = Once::new();
    if let Some(first) = errors.first() {
        ONCE.call_once(|| {
            tracing::warn!(
                error = first,
                "a mounter cannot have cgroups of its own everywhere, and may end with this process"
            );
        });
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

/// The core's metrics.
pub struct MountMetrics {
    mounts: Counter,
    failures: Family<Labels, Counter>,
    seconds: Histogram,
}

impl MountMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            mounts: Counter::default(),
            failures: Family::default(),
            seconds: Histogram::new([0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0]),
        };
        let (mounts, failures) = (metrics.mounts.clone(), metrics.failures.clone());
        registry.register(
            "bucket_mounts",
            "Mounters started that have answered",
            mounts,
        );
        registry.register(
            "bucket_mount_failures",
            "Mounts that failed, by reason",
            failures,
        );
        let help = "How long it took from a mounter's start to its first answer";
        registry.register(
            "bucket_mount_duration_seconds",
            help,
            metrics.seconds.clone(),
        );
        metrics
    }
}
