//! What the status says of a running pod's buckets: out of the entries that
//! `hutch-node` writes, and where there is none, out of what the controller knows
//! itself. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::diagnosis;
use super::problem::Problem;
use hutch_api::{Bucket, BucketPhase, BucketStatus, Mechanism, Sandbox};
use hutch_core::buckets::{self, reasons};

/// How long a mount may take before anybody is told that it takes time: a normal
/// one takes a fraction of it, and costs no write then.
const MOUNT_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// Who mounts buckets on a pod's node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mounter {
    /// `hutch-node` runs there.
    pub present: bool,
    /// The CSI driver of volumes is another one.
    pub foreign: bool,
}

/// Whether this very pod was ready before: from then on its sandbox answers, with
/// its buckets or without.
pub fn been_ready(sandbox: &Sandbox, pod: &Pod) -> bool {
    sandbox
        .status
        .as_ref()
        .is_some_and(|status| status.phase.answers() && status.pod_uid == pod.uid())
}

/// What is wrong with the buckets of a pod that runs; the worst first.
pub fn problem(sandbox: &Sandbox, pod: &Pod, mounter: Mounter, now: Timestamp) -> Option<Problem> {
    let all = sandbox.spec.buckets.iter();
    let mut problem = all
        .filter_map(|bucket| bucket_problem(bucket, sandbox, pod, mounter))
        .min_by_key(|problem| (!problem.failed, problem.reason == reasons::MOUNTING))?;
    let young = start_grace_ends_at(pod).is_some_and(|until| now < until);
    if problem.reason == reasons::MOUNTING && young && !been_ready(sandbox, pod) {
        problem = Problem::starting(problem.message);
    }
    Some(problem)
}

/// Until when a mount that has just begun is given time, and whether nothing is to
/// be said until then. `fresh` is when the spec was first seen as it is.
pub fn grace_period(
    sandbox: &Sandbox,
    pod: &Pod,
    mounter: Mounter,
    spec_changed_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<(Timestamp, bool)> {
    let problem = problem(sandbox, pod, mounter, now)?;
    if diagnosis::pod(pod, now).is_some() {
        return None;
    }
    let before = been_ready(sandbox, pod);
    let until = if before {
        spec_changed_at?.checked_add(MOUNT_GRACE).ok()?
    } else {
        start_grace_ends_at(pod)?
    };
    let begun = matches!(problem.reason, reasons::MOUNTING | "Starting");
    (begun && now < until).then_some((until, before))
}

fn start_grace_ends_at(pod: &Pod) -> Option<Timestamp> {
    diagnosis::started_at(pod)?.0.checked_add(MOUNT_GRACE).ok()
}

fn bucket_problem(
    bucket: &Bucket,
    sandbox: &Sandbox,
    pod: &Pod,
    mounter: Mounter,
) -> Option<Problem> {
    let name = &bucket.name;
    let mechanism = buckets::mechanism(pod, name);
    if outdated(sandbox, bucket, pod) {
        let message = format!(
            "bucket {name} has changed, and is a volume of the pod: applied at its next start"
        );
        return Some(Problem::waiting(reasons::SPEC_CHANGED, message));
    }
    if unwatched(mechanism, mounter) {
        return None;
    }
    match reported(sandbox, bucket, pod) {
        Some(entry) if entry.phase == BucketPhase::Mounted => None,
        Some(entry) => {
            let reason = entry.reason.as_deref();
            let what = entry.error.as_deref().unwrap_or("it is being mounted");
            Some(Problem {
                failed: entry.phase == BucketPhase::Failed,
                ..Problem::waiting(
                    reason.map_or(reasons::MOUNTING, reasons::named),
                    format!("bucket {name}: {what}"),
                )
            })
        }
        None if mechanism == Mechanism::Live && !mounter.present => {
            Some(Problem::failed(reasons::NO_MOUNTER, no_mounter(name, pod)))
        }
        None => Some(Problem::waiting(
            reasons::MOUNTING,
            format!("bucket {name}: hutch-node has not mounted it yet"),
        )),
    }
}

/// Whether the pod has the bucket as a volume of another entry than the present one,
/// and the present one is not there in its stead.
pub fn outdated(sandbox: &Sandbox, bucket: &Bucket, pod: &Pod) -> bool {
    let instead = reported(sandbox, bucket, pod)
        .is_some_and(|entry| entry.mechanism == Some(Mechanism::Live));
    buckets::is_outdated(pod, bucket) && !instead
}

/// What `hutch-node` says of a volume that keeps the pod from starting.
pub fn before_start(sandbox: &Sandbox, pod: &Pod) -> Option<Problem> {
    let all = sandbox.spec.buckets.iter();
    let mut refused = all.filter(|bucket| !buckets::is_outdated(pod, bucket));
    refused.find_map(|bucket| {
        let entry = refusal(sandbox, bucket)?;
        let error = entry.error.as_deref().unwrap_or_default();
        let reason = entry.reason.as_deref().map_or("", |reason| reason);
        Some(Problem {
            failed: entry.phase == BucketPhase::Failed,
            ..Problem::waiting(
                reasons::named(reason),
                format!("bucket {}: {error}", bucket.name),
            )
        })
    })
}

/// The entry that says so, of a bucket of the spec as it is now.
pub fn refusal<'a>(sandbox: &'a Sandbox, bucket: &Bucket) -> Option<&'a BucketStatus> {
    buckets::current_status(sandbox, bucket, None)
        .filter(|entry| entry.error.is_some() && entry.mechanism == Some(Mechanism::Csi))
}

/// A volume of another driver where nobody looks after it: the container would not
/// run if the kubelet had not mounted it.
const fn unwatched(mechanism: Mechanism, mounter: Mounter) -> bool {
    matches!(mechanism, Mechanism::Csi) && mounter.foreign && !mounter.present
}

/// What `hutch-node` says of the bucket in this container.
fn reported<'a>(sandbox: &'a Sandbox, bucket: &Bucket, pod: &Pod) -> Option<&'a BucketStatus> {
    let container = buckets::container_id(pod)?;
    buckets::current_status(sandbox, bucket, Some(container)).filter(|entry| !is_own(entry))
}

fn no_mounter(bucket: &str, pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    format!(
        "bucket {bucket}: node {} does not run hutch-node, which mounts buckets into sandboxes that run: run it on every node; a sandbox of profile Restricted can do with a CSI driver for S3, which --csi-driver names",
        node.unwrap_or("(none)")
    )
}

/// The entries of `status.buckets` that are the controller's to write: where nobody
/// else can.
pub fn entries(
    sandbox: &Sandbox,
    pod: &Pod,
    mounter: Mounter,
    now: Timestamp,
) -> Vec<BucketStatus> {
    let Some(container) = buckets::container_id(pod) else {
        return Vec::new();
    };
    let entry = |bucket: &Bucket| {
        let mechanism = buckets::mechanism(pod, &bucket.name);
        let problem = bucket_problem(bucket, sandbox, pod, mounter);
        let missing = problem.filter(|problem| problem.reason == reasons::NO_MOUNTER);
        let mounted = unwatched(mechanism, mounter) && !buckets::is_outdated(pod, bucket);
        if missing.is_none() && !mounted {
            return None;
        }
        let mut entry = BucketStatus {
            name: bucket.name.clone(),
            phase: if mounted {
                BucketPhase::Mounted
            } else {
                BucketPhase::Failed
            },
            mechanism: Some(mechanism),
            since: None,
            last_check: None,
            reason: missing.as_ref().map(|problem| problem.reason.to_owned()),
            error: missing.map(|problem| problem.message),
            container_id: Some(container.to_owned()),
            digest: Some(buckets::digest(bucket)),
        };
        let before = written(sandbox).into_iter().find(|old| {
            old.name == entry.name
                && old.phase == entry.phase
                && old.container_id == entry.container_id
        });
        entry.since = before.map_or(Some(Time(now)), |before| before.since);
        Some(entry)
    };
    sandbox.spec.buckets.iter().filter_map(entry).collect()
}

/// Those of the present status that the controller wrote, or that still have
/// something of what it wrote.
pub fn written(sandbox: &Sandbox) -> Vec<BucketStatus> {
    let status = sandbox.status.as_ref();
    let all = status.map(|status| status.buckets.as_slice());
    let own = all.unwrap_or_default().iter().filter(|entry| is_own(entry));
    own.cloned().collect()
}

/// `hutch-node` says when it looked, and never that it is not there.
fn is_own(entry: &BucketStatus) -> bool {
    entry.reason.as_deref() == Some(reasons::NO_MOUNTER)
        || (entry.mechanism == Some(Mechanism::Csi)
            && entry.phase == BucketPhase::Mounted
            && entry.last_check.is_none())
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
