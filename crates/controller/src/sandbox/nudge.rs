//! Makes a kubelet look at a pod again. The scheduler binds a pod when its claims have
//! volumes, but the phase `Bound` of a claim is written a moment later. A kubelet that asks
//! in between does not ask again for 10 to 15 s (Kubernetes: `processPodVolumes` in
//! `pkg/kubelet/volumemanager/populator`, `backOffPeriod` in `pkg/kubelet`). After any change
//! of the pod it asks at once. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::diagnosis::{has_run, pod_condition};
use super::observe::Observed;
use hutch_api::annotations;
use hutch_core::objects::is_bound;

/// Time for a kubelet to mount the volumes of a pod. Kubernetes reports the time of the
/// scheduling in whole seconds.
const VOLUME_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// The patch that makes the kubelet look again, and the time when it is due. `None` if the
/// pod has its volumes, waits for a claim, or was patched before.
pub fn nudge(observed: &Observed, pod: &Pod) -> Option<(Timestamp, Value)> {
    let holds = |kind| pod_condition(pod, kind).filter(|condition| condition.status == "True");
    let nudged = pod.annotations().contains_key(annotations::CLAIMS_BOUND);
    if nudged || has_run(pod) || holds("PodReadyToStartContainers").is_some() {
        return None;
    }
    let mut claims = observed
        .claim
        .iter()
        .chain(&observed.bucket_claims)
        .peekable();
    if claims.peek().is_none() || !claims.all(|claim| is_bound(claim)) {
        return None;
    }
    let scheduled = holds("PodScheduled")?.last_transition_time.as_ref()?;
    let due = scheduled.0.checked_add(VOLUME_GRACE).ok()?;
    let note = json!({ (annotations::CLAIMS_BOUND): "true" });
    Some((due, json!({ "metadata": { "annotations": note } })))
}

#[cfg(test)]
#[path = "nudge_tests.rs"]
mod tests;
