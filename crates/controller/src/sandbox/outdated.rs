//! Compares a pod with the present spec, and decides if a difference needs a new pod now.
//! Pure.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::desired::digest;
use super::{diagnosis, mounts};
use hutch_api::{Sandbox, annotations};
use hutch_core::buckets;

/// True if the pod was created from another spec and none of its containers has run. It may
/// never start, and its removal loses nothing.
pub fn before_it_ran(sandbox: &Sandbox, pod: &Pod) -> bool {
    let changed = !changed_fields(sandbox, pod).is_empty();
    !diagnosis::has_run(pod) && (changed || !removed_buckets(sandbox, pod).is_empty())
}

/// The buckets that are volumes of the pod and no longer in the spec.
pub fn removed_buckets<'a>(sandbox: &Sandbox, pod: &'a Pod) -> Vec<&'a str> {
    let removed = |name: &&str| !sandbox.spec.buckets.iter().any(|own| own.name == *name);
    let annotated = buckets::annotated(pod).map(|(name, _)| name);
    annotated.filter(removed).collect()
}

/// True if a user asked for a restart since the pod was created, or asked before and the spec
/// has changed since.
pub fn restart_due(sandbox: &Sandbox, pod: &Pod) -> bool {
    let Some(asked) = sandbox.annotations().get(annotations::RESTART) else {
        return false;
    };
    pod.annotations().get(annotations::RESTART) != Some(asked)
        || !changed_fields(sandbox, pod).is_empty()
}

/// The fields of the spec that have changed since the pod was created. Live mounts change
/// without a new pod. A bucket that is a volume of the pod does not.
pub fn changed_fields(sandbox: &Sandbox, pod: &Pod) -> Vec<&'static str> {
    let recorded = pod.annotations().get(annotations::POD_DIGEST);
    let mut changed = recorded.map_or_else(Vec::new, |recorded| {
        digest::changed(recorded, &sandbox.spec)
    });
    let mut all = sandbox.spec.buckets.iter();
    if all.any(|bucket| mounts::is_outdated(sandbox, bucket, pod)) {
        changed.push("buckets");
    }
    changed
}
