//! The claim of a persistent workspace, and the patches for an existing claim.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{labels_of, quantity};
use hutch_api::{Persistence, ReclaimPolicy, Sandbox, labels};
use hutch_core::names;
use hutch_core::objects::{is_bound, is_owned_by};

/// Name of the sandbox's claim; `None` if the workspace is ephemeral.
pub fn claim_name(sandbox: &Sandbox) -> Option<String> {
    let persistent = sandbox.spec.workspace.persistence == Persistence::Persistent;
    persistent.then(|| names::claim(&sandbox.name_any(), &sandbox.uid().unwrap_or_default()))
}

/// The claim of a new sandbox; `None` if the workspace is ephemeral. A retained claim has no
/// owner, because the garbage collector deletes an owned claim with its sandbox.
pub fn claim(sandbox: &Sandbox) -> Option<PersistentVolumeClaim> {
    let workspace = &sandbox.spec.workspace;
    let retained = workspace.reclaim_policy == ReclaimPolicy::Retain;
    let mut labels = labels_of(sandbox);
    if retained {
        labels.insert(labels::RETAINED.to_owned(), "true".to_owned());
    }
    let requests = [("storage".to_owned(), Quantity(workspace.size.clone()))];
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim_name(sandbox)?),
            namespace: sandbox.namespace(),
            labels: Some(labels),
            owner_references: (!retained).then(|| sandbox.owner_reference().into_iter().collect()),
            ..Default::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: workspace.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(requests.into()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// The patch that gives the claim the reclaim policy of the spec; `None` if it has that.
pub fn reclaim_patch(sandbox: &Sandbox, claim: &PersistentVolumeClaim) -> Option<Value> {
    let uid = sandbox.uid()?;
    let owned = is_owned_by(&claim.metadata, &uid);
    let labelled = claim.labels().contains_key(labels::RETAINED);
    let retain = sandbox.spec.workspace.reclaim_policy == ReclaimPolicy::Retain;
    if retain != owned && retain == labelled {
        return None;
    }
    let mut owners = claim.owner_references().to_vec();
    owners.retain(|owner| owner.uid != uid);
    if !retain {
        owners.extend(sandbox.owner_reference());
    }
    let label = if retain { json!("true") } else { Value::Null };
    Some(json!({
        "metadata": { "ownerReferences": owners, "labels": { (labels::RETAINED): label } }
    }))
}

/// The patch that gives the claim the size of the spec; `None` if it is large enough, or not
/// bound. Only a bound claim can grow, and the event of its binding starts a new reconcile.
pub fn resize_patch(sandbox: &Sandbox, claim: &PersistentVolumeClaim) -> Option<Value> {
    let wanted = &sandbox.spec.workspace.size;
    (is_bound(claim) && quantity::exceeds(wanted, requested(claim)?))
        .then(|| json!({ "spec": { "resources": { "requests": { "storage": wanted } } } }))
}

/// The size that the claim requests.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<&str> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    Some(&resources.requests.as_ref()?.get("storage")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::desired::belongs;
    use hutch_api::SandboxSpec;
    use k8s_openapi::api::core::v1::PersistentVolumeClaimStatus;

    fn sandbox(policy: ReclaimPolicy) -> Sandbox {
        let mut sandbox = Sandbox::new("x", SandboxSpec::default());
        sandbox.metadata.uid = Some("uid-1".into());
        sandbox.metadata.namespace = Some("ns".into());
        sandbox.spec.workspace.reclaim_policy = policy;
        sandbox
    }

    fn patched(claim: &PersistentVolumeClaim, patch: &Value) -> PersistentVolumeClaim {
        let mut value = serde_json::to_value(claim).unwrap();
        merge(&mut value, patch);
        serde_json::from_value(value).unwrap()
    }

    fn merge(into: &mut Value, patch: &Value) {
        match patch {
            Value::Object(fields) if into.is_object() => {
                for (key, value) in fields {
                    if value.is_null() {
                        into.as_object_mut().unwrap().remove(key);
                    } else {
                        merge(&mut into[key], value);
                    }
                }
            }
            other => *into = other.clone(),
        }
    }

    #[test]
    fn a_claim_is_deleted_with_its_sandbox_unless_it_is_retained() {
        let delete = claim(&sandbox(ReclaimPolicy::Delete)).unwrap();
        assert_eq!(delete.owner_references()[0].uid, "uid-1");
        assert_eq!(delete.owner_references()[0].controller, Some(true));
        let retain = claim(&sandbox(ReclaimPolicy::Retain)).unwrap();
        assert!(retain.owner_references().is_empty());
        assert_eq!(retain.labels()[labels::RETAINED], "true");
        for claim in [delete, retain] {
            assert!(belongs(&claim, &sandbox(ReclaimPolicy::Delete)));
        }
    }

    #[test]
    fn the_reclaim_policy_of_a_claim_can_change_both_ways() {
        let (delete, retain) = (
            sandbox(ReclaimPolicy::Delete),
            sandbox(ReclaimPolicy::Retain),
        );
        for (from, to) in [(&delete, &retain), (&retain, &delete)] {
            let before = claim(from).unwrap();
            assert!(reclaim_patch(from, &before).is_none());
            let after = patched(&before, &reclaim_patch(to, &before).unwrap());
            assert!(reclaim_patch(to, &after).is_none());
            assert_eq!(
                after.owner_references().len(),
                claim(to).unwrap().owner_references().len()
            );
        }
    }

    #[test]
    fn only_a_bound_claim_that_is_too_small_grows() {
        let mut sandbox = sandbox(ReclaimPolicy::Delete);
        let mut made = claim(&sandbox).unwrap();
        sandbox.spec.workspace.size = "20Gi".into();
        assert!(resize_patch(&sandbox, &made).is_none());
        made.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Bound".into()),
            ..Default::default()
        });
        let patch = resize_patch(&sandbox, &made).unwrap();
        assert_eq!(requested(&patched(&made, &patch)), Some("20Gi"));
        assert!(resize_patch(&sandbox, &patched(&made, &patch)).is_none());
    }

    #[test]
    fn an_ephemeral_workspace_has_no_claim() {
        let mut sandbox = sandbox(ReclaimPolicy::Delete);
        sandbox.spec.workspace.persistence = Persistence::Ephemeral;
        assert!(claim(&sandbox).is_none());
    }
}
