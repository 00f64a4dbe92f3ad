//! A pod whose kubelet has to look again. The scheduler binds a pod when its
//! claims have volumes; that a claim is `Bound` is written a moment later, and a
//! kubelet that asks in between leaves the pod alone for 10 to 15 s (Kubernetes:
//! `processPodVolumes` in `pkg/kubelet/volumemanager/populator`, `backOffPeriod`
//! in `pkg/kubelet`). Any change of the pod has it look at once.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::diagnosis::{has_run, pod_condition};
use super::observe::Observed;
use hutch_api::annotations;

/// How long a kubelet has for the volumes of a pod; Kubernetes tells of the
/// beginning in whole seconds.
const VOLUME_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// The one change that has the kubelet look again at a pod that does not get its
/// volumes although its claims are bound, and when it is due.
pub fn nudge(observed: &Observed, pod: &Pod) -> Option<(Timestamp, Value)> {
    let holds = |kind| pod_condition(pod, kind).filter(|condition| condition.status == "True");
    let nudged = pod.annotations().contains_key(annotations::CLAIMS_BOUND);
    if nudged || has_run(pod) || holds("PodReadyToStartContainers").is_some() {
        return None;
    }
    let claims = observed.claim.iter().chain(&observed.bucket_claims);
    let bound: Vec<_> = claims.map(|claim| is_bound(claim)).collect();
    if bound.is_empty() || bound.contains(&false) {
        return None;
    }
    let scheduled = holds("PodScheduled")?.last_transition_time.as_ref()?;
    let due = scheduled.0.checked_add(VOLUME_GRACE).ok()?;
    let note = json!({ (annotations::CLAIMS_BOUND): "true" });
    Some((due, json!({ "metadata": { "annotations": note } })))
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Bound")
}

#[cfg(test)]
#[path = "nudge_tests.rs"]
mod tests;
