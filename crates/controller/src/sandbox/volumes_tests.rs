use super::*;
use crate::sandbox::desired::buckets::volumes as rendered;
use crate::sandbox::desired::placement::Placement;
use crate::sandbox::desired::pod;
use crate::sandbox::fixtures::{
    at, bucket, csi_node, node, observed, ready, sandbox, settings as defaults, with_status,
};
use crate::sandbox::mounts::MountSupport;
use crate::sandbox::outdated;
use crate::sandbox::plan::{Plan, PodStep, Removal, Verdict, plan};
use hutch_api::{Phase, SecurityProfile};
use hutch_core::reasons::Reason;

fn settings() -> PodSettings {
    let mut settings = defaults();
    settings.buckets.csi_driver = "ru.yandex.s3.csi".into();
    settings
}

/// A Restricted sandbox with a bucket, on a node with the driver.
fn restricted() -> Observed {
    let mut observed = observed(sandbox(|spec| {
        spec.security_profile = Some(SecurityProfile::Restricted);
        spec.buckets = vec![bucket("data")];
    }));
    observed.nodes = vec![Arc::new(node(true))];
    observed.drivers = vec![Arc::new(csi_node("node-1", &["ru.yandex.s3.csi"]))];
    observed
}

fn planned(observed: &Observed) -> Plan {
    plan(observed, &settings(), at(100))
}

fn volume(observed: &Observed) -> BucketVolume {
    let all = rendered(&observed.sandbox, &settings().buckets, Volumes::All);
    all.unwrap().remove(0)
}

/// The pod that the plan creates, in the form of the cache.
fn pod_of(observed: &Observed) -> Pod {
    let placement = Placement {
        profile: SecurityProfile::Restricted,
        image_volume: true,
        volumes: Volumes::All,
    };
    let mut pod = pod::pod(
        &observed.sandbox,
        &settings(),
        placement,
        &[volume(observed)],
    );
    pod.metadata.uid = Some("pod-1".into());
    pod
}

fn claim(observed: &Observed) -> Arc<PersistentVolumeClaim> {
    Arc::new(volume(observed).persistent_volume_claim("u", &observed.sandbox))
}

fn edit(observed: &mut Observed, change: impl FnOnce(&mut hutch_api::Sandbox)) {
    let mut sandbox = observed.sandbox.as_ref().clone();
    change(&mut sandbox);
    observed.sandbox = Arc::new(sandbox);
}

#[test]
fn the_volume_of_a_bucket_is_created_before_its_pod() {
    let observed = restricted();
    let plan = planned(&observed);
    assert_eq!(plan.volumes, [volume(&observed)]);
    let PodStep::Create(pod) = plan.pod else {
        panic!("{:?}", plan.pod);
    };
    assert_eq!(
        claims_of(&pod).last(),
        Some(volume(&observed).claim.as_str())
    );
}

#[test]
fn no_pod_is_created_for_a_handle_that_is_in_use() {
    let mut observed = restricted();
    let mut other = volume(&observed).persistent_volume("u", &settings().buckets);
    let claim = other.spec.as_mut().unwrap().claim_ref.as_mut().unwrap();
    claim.namespace = Some("another".into());
    observed.volumes = vec![Arc::new(other)];
    let plan = planned(&observed);
    assert_eq!((plan.pod, plan.volumes.len()), (PodStep::Keep, 0));
    let Verdict::Blocked(problem) = plan.verdict else {
        panic!("{:?}", plan.verdict);
    };
    assert_eq!(
        (problem.reason, problem.failed),
        (Reason::HandleInUse, true)
    );
}

#[test]
fn a_claim_that_neither_the_pod_nor_the_spec_uses_is_released() {
    let mut observed = restricted();
    observed.bucket_claims = vec![claim(&observed)];
    assert!(planned(&observed).release.is_empty());
    observed.pod = Some(Arc::new(ready(pod_of(&observed))));
    edit(&mut observed, |sandbox| {
        sandbox.spec.buckets[0].credentials_secret_ref.name = "new".into();
    });
    assert!(planned(&observed).release.is_empty(), "the pod has it");
    observed.pod = None;
    assert_eq!(planned(&observed).release, observed.bucket_claims);
}

#[test]
fn a_volume_that_is_lost_before_the_pod_has_run_is_created_again() {
    let mut observed = restricted();
    observed.pod = Some(Arc::new(pod_of(&observed)));
    assert_eq!(planned(&observed).volumes, [volume(&observed)]);
    observed.bucket_claims = vec![claim(&observed)];
    let existing = volume(&observed).persistent_volume("u", &settings().buckets);
    observed.volumes = vec![Arc::new(existing)];
    assert!(planned(&observed).volumes.is_empty());
    observed.volumes.clear();
    observed.pod = Some(Arc::new(ready(pod_of(&observed))));
    assert!(planned(&observed).volumes.is_empty(), "it runs");
}

#[test]
fn a_bucket_that_is_a_volume_changes_only_with_a_new_pod() {
    let mut observed = restricted();
    let (new, runs) = (pod_of(&observed), ready(pod_of(&observed)));
    edit(&mut observed, |sandbox| {
        sandbox.spec.buckets[0].read_only = true
    });
    assert_eq!(
        outdated::changed_fields(&observed.sandbox, &runs),
        ["buckets"]
    );
    observed.pod = Some(Arc::new(runs));
    assert_eq!(planned(&observed).pod, PodStep::Keep);
    observed.pod = Some(Arc::new(new));
    assert_eq!(planned(&observed).pod, PodStep::Delete(Removal::NeverRan));
    // A bucket that was removed from the spec is unmounted in the running pod.
    edit(&mut observed, |sandbox| sandbox.spec.buckets.clear());
    assert_eq!(planned(&observed).pod, PodStep::Delete(Removal::NeverRan));
    let runs = ready(pod_of(&restricted()));
    assert!(outdated::changed_fields(&observed.sandbox, &runs).is_empty());
}

#[test]
fn the_status_waits_for_the_mount_of_a_new_bucket() {
    let mut observed = observed(sandbox(|spec| spec.buckets = vec![bucket("data")]));
    observed.mount_support = MountSupport {
        node_component: true,
        foreign_driver: false,
    };
    let pod = crate::sandbox::fixtures::pod(&observed.sandbox);
    observed.pod = Some(Arc::new(ready(pod)));
    observed.sandbox = Arc::new(with_status(observed.sandbox.as_ref().clone(), |status| {
        status.phase = Phase::Ready;
        status.pod_uid = Some("pod-1".into());
    }));
    observed.spec_changed_at = Some(at(300));
    let quiet = plan(&observed, &settings(), at(301));
    assert_eq!(
        (quiet.verdict, quiet.requeue_at),
        (Verdict::Unchanged, Some(at(302)))
    );
    let over = plan(&observed, &settings(), at(302));
    assert_eq!(over.verdict, Verdict::Running);
}
