//! Starts a mounter and waits until it has answered.

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
use crate::errand::{self, Errand, Start};
use crate::{Error, Process, Source, endpoint, mountinfo};

/// How long a mount may take, all in all.
const MOUNT: Duration = Duration::from_secs(10);
/// How often it is looked whether it is there.
const LOOK: Duration = Duration::from_millis(4);
/// Of a mounter's output, so much is read.
const OUTPUT: usize = 16 << 10;

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
                self.end(record).await;
                record.process = None;
                record.verified = false;
                match record.places.is_empty() {
                    true => record.remove(&self.0.state),
                    false => record.save(&record.file(&self.0.state))?,
                }
                let reason = error.reason();
                metrics.failures.get_or_create(&Reason { reason }).inc();
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
        let (state, mounter) = (&self.0.state, &self.0.mounter);
        endpoint::check(&source.endpoint).await?;
        let (stage, point) = (stage(state), self.point());
        let keys = Start::key_file(&stage);
        let words = mounter.command(source, &record.label(), &point, &keys)?;
        let (cgroups, trouble) = self.0.cgroups.make(&record.key);
        complain(&trouble);
        record.process = None;
        record.verified = false;
        record.digest = source.digest();
        let start = Start {
            stage,
            keys: mounter.keys(source),
            words,
            environment: mounter.environment(),
            cgroups,
            record: record.clone(),
            file: record.file(state),
        };
        let mut child = self.spawn(record)?;
        // Known at once: whoever waits here may be dropped at any time.
        // The child is not waited for then: tokio reaps it when it has ended.
        record.process = child.id().and_then(Process::of);
        tell(&mut child, start).await?;
        let process = record.process.ok_or_else(|| self.explain(record, source))?;
        self.slot(&record.id).outstanding.set(process);
        let left = || MOUNT.saturating_sub(begun.elapsed());
        tokio::select! {
            mounted = self.answered(record, process, left()) => mounted,
            _ = child.wait() => Err(Failure::Ended),
        }
        .map_err(|failure| match failure {
            Failure::Ended => self.explain(record, source),
            Failure::Late => Error::Unreachable(format!(
                "{} has not answered for {} s",
                source.endpoint,
                MOUNT.as_secs()
            )),
            Failure::Says(error) => error,
        })?;
        // What is not there any more cannot be read by whoever comes later.
        std::fs::remove_file(format!("/proc/{}/root{}", process.pid, keys.display()))?;
        record.verified = true;
        record.save(&record.file(state))?;
        self.slot(&record.id).outstanding.answered();
        self.watch(&record.id, process);
        Ok(())
    }

    /// A process that becomes the mounter when it is told to.
    fn spawn(&self, record: &Record) -> Result<Child, Error> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(record.output(&self.0.state))?;
        output.set_len(0)?;
        let mut command = Command::new(errand::SELF);
        command
            .arg(errand::COMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command.spawn()?)
    }

    /// Waits until the mount is there and the S3 service has answered through it.
    async fn answered(
        &self,
        record: &mut Record,
        process: Process,
        limit: Duration,
    ) -> Result<(), Failure> {
        let (label, begun) = (record.label(), Instant::now());
        let point = self.point();
        // Until it has a namespace of its own it sees those of an earlier mounter.
        let is_own =
            |entry: &mountinfo::Entry| entry.source == label && Path::new(&entry.point) == point;
        let mounted = async {
            loop {
                let mounts = mountinfo::of(process.pid).unwrap_or_default();
                if let Some(own) = mounts.into_iter().find(is_own) {
                    return own.device;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let device = tokio::time::timeout(limit, mounted).await;
        record.device = device.map_err(|_| Failure::Late)?;
        let left = limit.saturating_sub(begun.elapsed());
        match check::remote(process, &self.point(), left).await {
            Ok(()) => Ok(()),
            Err(check::Trouble::Silent) => Err(Failure::Late),
            Err(check::Trouble::Says(error)) => Err(Failure::Says(error)),
            Err(check::Trouble::Lost) => {
                // It is about to end, and its output says why.
                let _ = tokio::time::timeout(left, process.ended()).await;
                Err(Failure::Ended)
            }
        }
    }

    /// Why the mounter has ended.
    fn explain(&self, record: &Record, source: &Source) -> Error {
        let output = std::fs::read(record.output(&self.0.state)).unwrap_or_default();
        let tail = &output[output.len().saturating_sub(OUTPUT)..];
        self.0
            .mounter
            .explain(source, &String::from_utf8_lossy(tail))
    }
}

async fn tell(child: &mut Child, start: Start) -> Result<(), Error> {
    let told = serde_json::to_vec(&Errand::Start(start)).map_err(std::io::Error::from)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&told).await?;
    }
    Ok(())
}

/// Why there is no answer.
enum Failure {
    Ended,
    Late,
    Says(Error),
}

/// Says once why mounters share our cgroup, and end with us.
fn complain(trouble: &[String]) {
    static ONCE: Once = Once::new();
    if let Some(first) = trouble.first() {
        ONCE.call_once(|| {
            tracing::warn!(
                trouble = first,
                "a mounter cannot have cgroups of its own everywhere, and may end with this process"
            );
        });
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What the core counts.
pub struct MountMetrics {
    mounts: Counter,
    failures: Family<Reason, Counter>,
    seconds: Histogram,
}

impl MountMetrics {
    /// Metrics that `registry` tells from now on.
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
