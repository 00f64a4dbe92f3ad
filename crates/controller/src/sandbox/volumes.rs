//! The volumes and claims of buckets that a sandbox needs, has lost, or does not use any
//! more. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::desired::buckets::{self, BucketVolume};
use super::desired::placement::Volumes;
use super::observe::Observed;
use super::problem::Problem;
use super::{diagnosis, mounts};
use crate::context::{BucketSettings, PodSettings};
use hutch_core::objects::is_ending;

/// The volumes of the buckets of a new pod.
///
/// # Errors
/// A bucket that cannot be a volume, or another volume that conflicts with one of them.
pub fn wanted(
    observed: &Observed,
    settings: &PodSettings,
    which: Volumes,
) -> Result<Vec<BucketVolume>, Problem> {
    let volumes = buckets::volumes(&observed.sandbox, &settings.buckets, which)?;
    let all = || observed.volumes.iter();
    let conflict = volumes.iter().find_map(|volume| {
        let other = all().find(|other| volume.conflicts_with(other))?;
        Some(volume.conflict(other))
    });
    match conflict {
        Some(problem) => Err(problem),
        None => Ok(volumes),
    }
}

/// The volumes that a pod waits for in vain before its first start: somebody deleted them,
/// a crash prevented their creation, or the S3 service refused the credentials and the
/// Secret may have been corrected since.
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

/// Claims of buckets that neither the pod nor the spec uses. Their volumes would conflict
/// with those of other sandboxes.
pub fn unused(observed: &Observed, settings: &BucketSettings) -> Vec<Arc<PersistentVolumeClaim>> {
    let wanted = buckets::claim_names(&observed.sandbox, settings);
    let unused = |claim: &&Arc<PersistentVolumeClaim>| {
        let name = claim.name_any();
        let pod = observed.pod.as_deref();
        let in_use = pod.is_some_and(|pod| claims_of(pod).any(|used| used == name));
        !in_use && !wanted.contains(&name) && !is_ending(&claim.metadata)
    };
    let own = observed.bucket_claims.iter();
    own.filter(unused).cloned().collect()
}

/// Names of the claims that are volumes of the pod.
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
