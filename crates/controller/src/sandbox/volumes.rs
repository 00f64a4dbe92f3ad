//! Which volumes and claims of buckets are wanted, lost or of no use any more, from
//! what was observed. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::desired::buckets::{self, BucketVolume};
use super::desired::placement::Volumes;
use super::observe::Observed;
use super::problem::Problem;
use super::{diagnosis, mounts};
use crate::context::{BucketSettings, PodSettings};

/// The volumes of the pod's buckets, if none is in use by others.
pub fn wanted(
    observed: &Observed,
    settings: &PodSettings,
    which: Volumes,
) -> Result<Vec<BucketVolume>, Problem> {
    let volumes = buckets::volumes(&observed.sandbox, &settings.buckets, which)?;
    let all = || observed.volumes.iter();
    let in_use = volumes.iter().find_map(|volume| {
        let other = all().find(|other| volume.clashes(other))?;
        Some(volume.in_use(other))
    });
    match in_use {
        Some(problem) => Err(problem),
        None => Ok(volumes),
    }
}

/// Volumes that a pod which has not run yet waits for in vain: somebody took them
/// away, a crash came before they were made, or their keys are refused and may have
/// been corrected in the sandbox's Secret.
pub fn lost(observed: &Observed, pod: &Pod, settings: &PodSettings) -> Vec<BucketVolume> {
    if diagnosis::has_run(pod) {
        return Vec::new();
    }
    let all = buckets::volumes(&observed.sandbox, &settings.buckets, Volumes::All);
    let lost = |volume: &BucketVolume| {
        let refused = mounts::refusal(&observed.sandbox, &volume.bucket).is_some();
        claims_of(pod).any(|claim| claim == volume.claim) && (refused || !observed.has(volume))
    };
    all.unwrap_or_default().into_iter().filter(lost).collect()
}

/// Claims of buckets that neither the pod nor the spec has use for: their volumes
/// would be in the way of others.
pub fn unused(observed: &Observed, settings: &BucketSettings) -> Vec<Arc<PersistentVolumeClaim>> {
    let wanted = buckets::claim_names(&observed.sandbox, settings);
    let unused = |claim: &&Arc<PersistentVolumeClaim>| {
        let name = claim.name_any();
        let pod = observed.pod.as_deref();
        let held = pod.is_some_and(|pod| claims_of(pod).any(|held| held == name));
        !held && !wanted.contains(&name) && claim.metadata.deletion_timestamp.is_none()
    };
    let own = observed.bucket_claims.iter();
    own.filter(unused).cloned().collect()
}

/// Names of the claims that the pod has volumes of.
fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref()?;
        Some(claim.claim_name.as_str())
    })
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
