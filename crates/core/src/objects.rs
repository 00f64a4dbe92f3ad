//! Questions about Kubernetes objects that several crates ask. A question about any kind
//! takes the metadata of the object.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use hutch_api::{MANAGED_BY, labels};

/// True if somebody deleted the object and it still exists, because of finalizers or a grace
/// period.
pub const fn is_ending(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// True if Hutch created the object. Anybody can set the label, so ask for an owner as well
/// before you change or delete the object.
pub fn is_managed(meta: &ObjectMeta) -> bool {
    label(meta, labels::MANAGED_BY) == Some(MANAGED_BY)
}

/// The label selector of the objects that Hutch created.
pub fn managed_selector() -> String {
    format!("{}={MANAGED_BY}", labels::MANAGED_BY)
}

/// True if the object with that UID is an owner, the controller or another one.
pub fn is_owned_by(meta: &ObjectMeta, uid: &str) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    owners.any(|owner| owner.uid == uid)
}

/// The value of a label.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    Some(meta.labels.as_ref()?.get(key)?)
}

/// True if all containers of the pod have ended and none runs again.
pub fn has_ended(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Name of the pod's node, once it has one.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// True if the claim has a volume.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim_phase(claim) == Some("Bound")
}

/// True if the claim's volume is gone. The claim never gets another one.
pub fn is_lost(claim: &PersistentVolumeClaim) -> bool {
    claim_phase(claim) == Some("Lost")
}

fn claim_phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

/// True if the volume's claim is gone.
pub fn is_released(volume: &PersistentVolume) -> bool {
    volume_phase(volume) == Some("Released")
}

/// True if no pod can use the volume, because its claim is gone.
pub fn is_unusable(volume: &PersistentVolume) -> bool {
    matches!(volume_phase(volume), Some("Released" | "Failed"))
}

fn volume_phase(volume: &PersistentVolume) -> Option<&str> {
    volume.status.as_ref()?.phase.as_deref()
}

/// Namespace and name of the volume's claim.
pub fn claim_of(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some((claim.namespace.as_deref()?, claim.name.as_deref()?))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    fn with_phase<K: DeserializeOwned>(phase: &str) -> K {
        object(json!({ "metadata": {}, "status": { "phase": phase } }))
    }

    #[test]
    fn an_object_with_a_deletion_timestamp_is_ending() {
        assert!(!is_ending(&ObjectMeta::default()));
        let time = "2026-01-01T00:00:00Z";
        assert!(is_ending(&object(json!({ "deletionTimestamp": time }))));
    }

    #[test]
    fn an_object_with_our_label_is_managed() {
        let meta = |value: &str| object(json!({ "labels": { labels::MANAGED_BY: value } }));
        assert!(is_managed(&meta(MANAGED_BY)));
        assert!(!is_managed(&meta("Helm")) && !is_managed(&ObjectMeta::default()));
        assert_eq!(managed_selector(), "app.kubernetes.io/managed-by=hutch");
    }

    #[test]
    fn an_owner_is_found_by_its_uid() {
        let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u" });
        let meta: ObjectMeta = object(json!({ "ownerReferences": [owner] }));
        assert!(is_owned_by(&meta, "u") && !is_owned_by(&meta, "x"));
        assert!(!is_owned_by(&ObjectMeta::default(), "u"));
    }

    #[test]
    fn a_pod_has_ended_when_it_failed_or_succeeded() {
        for (phase, ended) in [("Failed", true), ("Succeeded", true), ("Running", false)] {
            assert_eq!(has_ended(&with_phase(phase)), ended, "{phase}");
        }
        assert!(!has_ended(&Pod::default()));
        let placed: Pod = object(json!({ "spec": { "nodeName": "n", "containers": [] } }));
        assert_eq!(node_name(&placed), Some("n"));
        assert_eq!(node_name(&Pod::default()), None);
    }

    #[test]
    fn a_claim_is_bound_lost_or_neither() {
        assert!(is_bound(&with_phase("Bound")) && !is_lost(&with_phase("Bound")));
        assert!(is_lost(&with_phase("Lost")) && !is_bound(&with_phase("Pending")));
        assert!(!is_bound(&PersistentVolumeClaim::default()));
    }

    #[test]
    fn a_volume_without_its_claim_is_unusable() {
        assert!(is_released(&with_phase("Released")) && !is_released(&with_phase("Failed")));
        assert!(is_unusable(&with_phase("Released")) && is_unusable(&with_phase("Failed")));
        assert!(!is_unusable(&with_phase("Bound")));
        let claim = json!({ "namespace": "ns", "name": "c" });
        let volume = object(json!({ "spec": { "claimRef": claim } }));
        assert_eq!(claim_of(&volume), Some(("ns", "c")));
        assert_eq!(claim_of(&PersistentVolume::default()), None);
    }
}
