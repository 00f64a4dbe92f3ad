//! Whether a pod was made from another spec than the present one, and whether that
//! is reason enough for a new pod now. Pure.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::desired::digest;
use super::{diagnosis, mounts};
use hutch_api::{Sandbox, annotations};
use hutch_core::buckets;

/// Whether the pod was made from another spec and nothing of it has run: it may
/// never start, and nothing is lost with it.
pub fn before_it_ran(sandbox: &Sandbox, pod: &Pod) -> bool {
    let changed = !changed_fields(sandbox, pod).is_empty();
    !diagnosis::has_run(pod) && (changed || !dropped(sandbox, pod).is_empty())
}

/// Buckets that the pod has as volumes and the spec has no more.
pub fn dropped<'a>(sandbox: &Sandbox, pod: &'a Pod) -> Vec<&'a str> {
    let gone = |name: &&str| !sandbox.spec.buckets.iter().any(|own| own.name == *name);
    let noted = buckets::annotated(pod).map(|(name, _)| name);
    noted.filter(gone).collect()
}

/// Whether somebody asked for a new pod.
pub fn restart_due(sandbox: &Sandbox, pod: &Pod) -> bool {
    let Some(asked) = sandbox.annotations().get(annotations::RESTART) else {
        return false;
    };
    pod.annotations().get(annotations::RESTART) != Some(asked)
        || !changed_fields(sandbox, pod).is_empty()
}

/// The fields of the spec that the pod was not made from. Buckets come and go
/// without a new pod, but one that is a volume stays as it was made.
pub fn changed_fields(sandbox: &Sandbox, pod: &Pod) -> Vec<&'static str> {
    let recorded = pod.annotations().get(annotations::POD_DIGEST);
    let mut changed = recorded.map_or_else(Vec::new, |recorded| {
        digest::changed(recorded, &sandbox.spec)
    });
    let mut own = sandbox.spec.buckets.iter();
    if own.any(|own| mounts::outdated(sandbox, own, pod)) {
        changed.push("buckets");
    }
    changed
}
