//! The state of a running pod's buckets, for the status. Its source are the entries that
//! `hutch-node` writes. If there is no entry, the controller uses its own knowledge. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::diagnosis;
use super::problem::Problem;
use hutch_api::{Bucket, BucketPhase, BucketStatus, Mechanism, Sandbox};
use hutch_core::buckets;
use hutch_core::objects::node_name;
use hutch_core::reasons::Reason;

/// A mount may take this long before the status reports it. A normal mount is much faster,
/// so it costs no write.
const MOUNT_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// The programs that mount buckets on a pod's node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountSupport {
    /// True if `hutch-node` runs there.
    pub node_component: bool,
    /// True if volumes of buckets use another CSI driver than that of `hutch-node`.
    pub foreign_driver: bool,
}

/// True if this pod was ready before. From then on its sandbox answers, with or without its
/// buckets.
pub fn was_ready(sandbox: &Sandbox, pod: &Pod) -> bool {
    sandbox
        .status
        .as_ref()
        .is_some_and(|status| status.phase.answers() && status.pod_uid == pod.uid())
}

/// The worst problem with the buckets of a running pod.
pub fn problem(
    sandbox: &Sandbox,
    pod: &Pod,
    support: MountSupport,
    now: Timestamp,
) -> Option<Problem> {
    let all = sandbox.spec.buckets.iter();
    let mut problem = all
        .filter_map(|bucket| bucket_problem(bucket, sandbox, pod, support))
        .min_by_key(|problem| (!problem.failed, problem.reason == Reason::Mounting))?;
    let young = start_grace_ends_at(pod).is_some_and(|until| now < until);
    if problem.reason == Reason::Mounting && young && !was_ready(sandbox, pod) {
        problem = Problem::starting(problem.message);
    }
    Some(problem)
}

/// The time that a mount which has just begun gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    pub until: Timestamp,
    /// True if the pod was ready before. Then the status stays as it is until the end.
    pub was_ready: bool,
}

/// The grace period of a mount that has just begun: since the pod's start, or since the
/// change of the spec at `spec_changed_at` if the pod was ready before.
pub fn grace_period(
    sandbox: &Sandbox,
    pod: &Pod,
    support: MountSupport,
    spec_changed_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Grace> {
    let problem = problem(sandbox, pod, support, now)?;
    if diagnosis::pod(pod, now).is_some() {
        return None;
    }
    let was_ready = was_ready(sandbox, pod);
    let until = if was_ready {
        spec_changed_at?.checked_add(MOUNT_GRACE).ok()?
    } else {
        start_grace_ends_at(pod)?
    };
    let has_begun = matches!(problem.reason, Reason::Mounting | Reason::Starting);
    (has_begun && now < until).then_some(Grace { until, was_ready })
}

fn start_grace_ends_at(pod: &Pod) -> Option<Timestamp> {
    diagnosis::started_at(pod)?.0.checked_add(MOUNT_GRACE).ok()
}

fn bucket_problem(
    bucket: &Bucket,
    sandbox: &Sandbox,
    pod: &Pod,
    support: MountSupport,
) -> Option<Problem> {
    let name = &bucket.name;
    let mechanism = buckets::mechanism(pod, name);
    if is_outdated(sandbox, bucket, pod) {
        let message = format!(
            "bucket {name} has changed, and is a volume of the pod: applied at its next start"
        );
        return Some(Problem::waiting(Reason::SpecChanged, message));
    }
    if is_unchecked(mechanism, support) {
        return None;
    }
    match reported(sandbox, bucket, pod) {
        Some(entry) if entry.phase == BucketPhase::Mounted => None,
        Some(entry) => {
            let what = entry.error.as_deref().unwrap_or("it is being mounted");
            Some(Problem {
                failed: entry.phase == BucketPhase::Failed,
                ..Problem::waiting(
                    entry.reason.as_deref().map_or(Reason::Mounting, reason),
                    format!("bucket {name}: {what}"),
                )
            })
        }
        None if mechanism == Mechanism::Live && !support.node_component => {
            let message = no_mounter(name, pod);
            Some(Problem::failed(Reason::NoMounter, message))
        }
        None => Some(Problem::waiting(
            Reason::Mounting,
            format!("bucket {name}: hutch-node has not mounted it yet"),
        )),
    }
}

/// The reason in an entry. An unknown one counts as a failure of the mounter.
fn reason(text: &str) -> Reason {
    Reason::parse(text).unwrap_or(Reason::MounterFailed)
}

/// True if the bucket is a volume of the pod and has changed in the spec since, and no live
/// mount has replaced that volume.
pub fn is_outdated(sandbox: &Sandbox, bucket: &Bucket, pod: &Pod) -> bool {
    let replaced = reported(sandbox, bucket, pod)
        .is_some_and(|entry| entry.mechanism == Some(Mechanism::Live));
    buckets::is_outdated(pod, bucket) && !replaced
}

/// The problem that `hutch-node` reports for a volume, if it keeps the pod from starting.
pub fn start_problem(sandbox: &Sandbox, pod: &Pod) -> Option<Problem> {
    let all = sandbox.spec.buckets.iter();
    let mut current = all.filter(|bucket| !buckets::is_outdated(pod, bucket));
    current.find_map(|bucket| {
        let entry = refusal(sandbox, bucket)?;
        let error = entry.error.as_deref().unwrap_or_default();
        Some(Problem {
            failed: entry.phase == BucketPhase::Failed,
            ..Problem::waiting(
                reason(entry.reason.as_deref().unwrap_or_default()),
                format!("bucket {}: {error}", bucket.name),
            )
        })
    })
}

/// The entry in which `hutch-node` reports that it cannot mount the bucket's volume. It
/// applies to the present spec only.
pub fn refusal<'a>(sandbox: &'a Sandbox, bucket: &Bucket) -> Option<&'a BucketStatus> {
    buckets::current_status(sandbox, bucket, None)
        .filter(|entry| entry.error.is_some() && entry.mechanism == Some(Mechanism::Csi))
}

/// True for a volume of another driver on a node without `hutch-node`: nothing checks it. It
/// counts as mounted, because the container runs only after the kubelet has mounted it.
const fn is_unchecked(mechanism: Mechanism, support: MountSupport) -> bool {
    matches!(mechanism, Mechanism::Csi) && support.foreign_driver && !support.node_component
}

/// The entry of `hutch-node` for the bucket in this container.
fn reported<'a>(sandbox: &'a Sandbox, bucket: &Bucket, pod: &Pod) -> Option<&'a BucketStatus> {
    let container = buckets::container_id(pod)?;
    buckets::current_status(sandbox, bucket, Some(container)).filter(|entry| !is_own(entry))
}

fn no_mounter(bucket: &str, pod: &Pod) -> String {
    format!(
        "bucket {bucket}: node {} does not run hutch-node, which mounts buckets into sandboxes that run: run it on every node; a sandbox of profile Restricted can do with a CSI driver for S3, which --csi-driver names",
        node_name(pod).unwrap_or("(none)")
    )
}

/// The controller's entries of `status.buckets`, for the buckets that no `hutch-node` can
/// report on.
pub fn own_entries(
    sandbox: &Sandbox,
    pod: &Pod,
    support: MountSupport,
    now: Timestamp,
) -> Vec<BucketStatus> {
    let Some(container) = buckets::container_id(pod) else {
        return Vec::new();
    };
    let before = written_entries(sandbox);
    let entry = |bucket: &Bucket| {
        let mut entry = own_entry(bucket, sandbox, pod, support)?;
        entry.container_id = Some(container.to_owned());
        let same = |old: &&BucketStatus| {
            old.name == entry.name
                && old.phase == entry.phase
                && old.container_id == entry.container_id
        };
        entry.since = match before.iter().find(same) {
            Some(old) => old.since.clone(),
            None => Some(Time(now)),
        };
        Some(entry)
    };
    sandbox.spec.buckets.iter().filter_map(entry).collect()
}

/// The controller's entry for one bucket, without container and time.
fn own_entry(
    bucket: &Bucket,
    sandbox: &Sandbox,
    pod: &Pod,
    support: MountSupport,
) -> Option<BucketStatus> {
    let mechanism = buckets::mechanism(pod, &bucket.name);
    let problem = bucket_problem(bucket, sandbox, pod, support);
    let missing = problem.filter(|problem| problem.reason == Reason::NoMounter);
    let mounted = is_unchecked(mechanism, support) && !buckets::is_outdated(pod, bucket);
    if missing.is_none() && !mounted {
        return None;
    }
    Some(BucketStatus {
        name: bucket.name.clone(),
        phase: if mounted {
            BucketPhase::Mounted
        } else {
            BucketPhase::Failed
        },
        mechanism: Some(mechanism),
        since: None,
        last_check: None,
        reason: missing.as_ref().map(|problem| problem.reason.into()),
        error: missing.map(|problem| problem.message),
        container_id: None,
        digest: Some(buckets::digest(bucket)),
    })
}

/// The entries of the present status that the controller wrote.
pub fn written_entries(sandbox: &Sandbox) -> Vec<BucketStatus> {
    let status = sandbox.status.as_ref();
    let all = status.map(|status| status.buckets.as_slice());
    let own = all.unwrap_or_default().iter().filter(|entry| is_own(entry));
    own.cloned().collect()
}

/// True if the controller wrote the entry: `hutch-node` always writes the time of its last
/// check, and never the reason `NoMounter`.
fn is_own(entry: &BucketStatus) -> bool {
    let no_mounter = |reason: &String| *reason == Reason::NoMounter;
    entry.reason.as_ref().is_some_and(no_mounter)
        || (entry.mechanism == Some(Mechanism::Csi)
            && entry.phase == BucketPhase::Mounted
            && entry.last_check.is_none())
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
