use super::*;
use crate::sandbox::fixtures::{
    at, bucket, pod as created, ready, reported as entry, sandbox, with_status,
};
use hutch_api::{Phase, annotations};
use hutch_core::names;

/// `hutch-node` runs and has its own driver.
const HERE: MountSupport = MountSupport {
    node_component: true,
    foreign_driver: false,
};
/// `hutch-node` does not run.
const NOWHERE: MountSupport = MountSupport {
    node_component: false,
    foreign_driver: false,
};
/// `hutch-node` does not run, and volumes have another driver.
const FOREIGN: MountSupport = MountSupport {
    node_component: false,
    foreign_driver: true,
};

/// A sandbox with one bucket and these entries in its status, and its pod, which runs since
/// second 102.
fn world(entries: Vec<BucketStatus>) -> (Sandbox, Pod) {
    let sandbox = sandbox(|spec| spec.buckets = vec![bucket("data")]);
    let pod = ready(created(&sandbox));
    let sandbox = with_status(sandbox, |status| status.buckets = entries);
    (sandbox, pod)
}

fn as_volume(pod: &mut Pod, digest: &str) {
    let volumes = pod.spec.as_mut().unwrap().volumes.as_mut().unwrap();
    volumes.push(k8s_openapi::api::core::v1::Volume {
        name: names::bucket_volume("data"),
        ..Default::default()
    });
    let note = format!("data={digest}");
    pod.annotations_mut()
        .insert(annotations::BUCKETS.into(), note);
}

fn ready_before(sandbox: Sandbox) -> Sandbox {
    with_status(sandbox, |status| {
        status.phase = Phase::Ready;
        status.pod_uid = Some("pod-1".into());
    })
}

fn reason(sandbox: &Sandbox, pod: &Pod, support: MountSupport, second: i64) -> Option<Reason> {
    problem(sandbox, pod, support, at(second)).map(|problem| problem.reason)
}

#[test]
fn the_entry_of_the_node_decides_the_state_of_a_bucket() {
    let problem_with = |phase, why| {
        let (sandbox, pod) = world(vec![entry(&bucket("data"), phase, why)]);
        problem(&sandbox, &pod, HERE, at(200))
    };
    assert_eq!(problem_with(BucketPhase::Mounted, None), None);
    let failed = problem_with(BucketPhase::Failed, Some("AccessDenied")).unwrap();
    assert_eq!((failed.reason, failed.failed), (Reason::AccessDenied, true));
    assert_eq!(failed.message, "bucket data: what is wrong");
    let down = problem_with(BucketPhase::Degraded, Some("EndpointUnreachable")).unwrap();
    assert_eq!(
        (down.reason, down.failed),
        (Reason::EndpointUnreachable, false)
    );
    assert_eq!(
        problem_with(BucketPhase::Pending, None).unwrap().reason,
        Reason::Mounting
    );
    let odd = problem_with(BucketPhase::Failed, Some("a b")).unwrap();
    assert_eq!(odd.reason, Reason::MounterFailed);
}

#[test]
fn the_worst_problem_of_all_buckets_is_reported() {
    let (one, two) = (bucket("data"), bucket("logs"));
    let (mut sandbox, pod) = world(vec![
        entry(&one, BucketPhase::Degraded, Some("EndpointUnreachable")),
        entry(&two, BucketPhase::Failed, Some("NoSuchBucket")),
    ]);
    sandbox.spec.buckets = vec![bucket("new"), one, two];
    assert_eq!(
        reason(&sandbox, &pod, HERE, 200),
        Some(Reason::NoSuchBucket)
    );
    sandbox.spec.buckets.pop();
    assert_eq!(
        reason(&sandbox, &pod, HERE, 200),
        Some(Reason::EndpointUnreachable)
    );
}

#[test]
fn an_entry_about_another_container_or_spec_does_not_count() {
    let mounted = entry(&bucket("data"), BucketPhase::Mounted, None);
    let (mut sandbox, mut pod) = world(vec![mounted]);
    sandbox.spec.buckets[0].read_only = true;
    assert_eq!(reason(&sandbox, &pod, HERE, 200), Some(Reason::Mounting));
    sandbox.spec.buckets[0].read_only = false;
    assert_eq!(reason(&sandbox, &pod, HERE, 200), None);
    let status = pod.status.as_mut().unwrap();
    let main = &mut status.container_statuses.as_mut().unwrap()[0];
    main.container_id = Some("containerd://2".into());
    assert_eq!(reason(&sandbox, &pod, HERE, 200), Some(Reason::Mounting));
}

#[test]
fn a_mount_counts_as_a_step_of_the_start_for_two_seconds() {
    let (sandbox, pod) = world(vec![]);
    assert_eq!(reason(&sandbox, &pod, HERE, 103), Some(Reason::Starting));
    assert_eq!(
        grace_period(&sandbox, &pod, HERE, None, at(103)),
        Some(Grace {
            until: at(104),
            was_ready: false
        })
    );
    assert_eq!(reason(&sandbox, &pod, HERE, 104), Some(Reason::Mounting));
    assert_eq!(grace_period(&sandbox, &pod, HERE, None, at(104)), None);
}

#[test]
fn a_new_bucket_has_two_seconds_and_a_lost_one_none() {
    let (sandbox, pod) = world(vec![]);
    let sandbox = ready_before(sandbox);
    let settle = |changed_at, now| grace_period(&sandbox, &pod, HERE, changed_at, at(now));
    assert_eq!(
        settle(Some(at(300)), 301),
        Some(Grace {
            until: at(302),
            was_ready: true
        })
    );
    assert_eq!(settle(Some(at(300)), 302), None);
    assert_eq!(settle(None, 301), None);
    let down = entry(
        &bucket("data"),
        BucketPhase::Degraded,
        Some("EndpointUnreachable"),
    );
    let (sandbox, pod) = world(vec![down]);
    let sandbox = ready_before(sandbox);
    assert_eq!(
        grace_period(&sandbox, &pod, HERE, Some(at(300)), at(301)),
        None
    );
}

#[test]
fn without_the_node_component_the_controller_reports_it() {
    let (sandbox, pod) = world(vec![]);
    let found = problem(&sandbox, &pod, NOWHERE, at(103)).unwrap();
    assert_eq!((found.reason, found.failed), (Reason::NoMounter, true));
    for word in ["node-1", "hutch-node", "--csi-driver"] {
        assert!(found.message.contains(word), "{}", found.message);
    }
    let own = own_entries(&sandbox, &pod, NOWHERE, at(103));
    assert_eq!((own.len(), own[0].phase), (1, BucketPhase::Failed));
    assert_eq!(own[0].reason.as_deref(), Some("NoMounter"));
    assert_eq!(own[0].container_id.as_deref(), Some("containerd://1"));
    // The entry stays as it is, and disappears when `hutch-node` runs.
    let sandbox = with_status(sandbox, |status| status.buckets = own.clone());
    assert_eq!(own_entries(&sandbox, &pod, NOWHERE, at(200)), own);
    assert_eq!(written_entries(&sandbox), own);
    assert_eq!(reason(&sandbox, &pod, HERE, 200), Some(Reason::Mounting));
    assert!(own_entries(&sandbox, &pod, HERE, at(200)).is_empty());
}

#[test]
fn a_short_absence_of_the_node_component_changes_nothing() {
    let mounted = entry(&bucket("data"), BucketPhase::Mounted, None);
    let (sandbox, pod) = world(vec![mounted]);
    assert_eq!(reason(&sandbox, &pod, NOWHERE, 200), None);
    assert!(own_entries(&sandbox, &pod, NOWHERE, at(200)).is_empty());
    assert!(written_entries(&sandbox).is_empty());
}

#[test]
fn a_volume_of_another_driver_counts_as_mounted_if_nothing_checks_it() {
    let (sandbox, mut pod) = world(vec![]);
    as_volume(&mut pod, &buckets::digest(&bucket("data")));
    assert_eq!(reason(&sandbox, &pod, FOREIGN, 200), None);
    let own = own_entries(&sandbox, &pod, FOREIGN, at(200));
    assert_eq!(
        (own[0].phase, own[0].mechanism),
        (BucketPhase::Mounted, Some(Mechanism::Csi))
    );
    let checked = MountSupport {
        node_component: true,
        foreign_driver: true,
    };
    assert_eq!(reason(&sandbox, &pod, checked, 200), Some(Reason::Mounting));
    assert!(own_entries(&sandbox, &pod, checked, at(200)).is_empty());
    // Only `hutch-node` reports on volumes of its own driver.
    assert_eq!(reason(&sandbox, &pod, NOWHERE, 200), Some(Reason::Mounting));
}

#[test]
fn a_changed_bucket_that_is_a_volume_waits_for_a_new_pod() {
    let mut mounted = entry(&bucket("data"), BucketPhase::Mounted, None);
    mounted.mechanism = Some(Mechanism::Csi);
    let (sandbox, mut pod) = world(vec![mounted.clone()]);
    as_volume(&mut pod, "another");
    for support in [HERE, FOREIGN] {
        assert_eq!(
            reason(&sandbox, &pod, support, 200),
            Some(Reason::SpecChanged)
        );
        assert!(own_entries(&sandbox, &pod, support, at(200)).is_empty());
    }
    // A live mount has replaced the volume.
    mounted.mechanism = Some(Mechanism::Live);
    let (sandbox, _) = world(vec![mounted]);
    assert_eq!(reason(&sandbox, &pod, HERE, 200), None);
}

#[test]
fn a_refused_volume_explains_why_the_pod_does_not_start() {
    let mut refused = entry(&bucket("data"), BucketPhase::Failed, Some("AccessDenied"));
    refused.mechanism = Some(Mechanism::Csi);
    let (sandbox, pod) = world(vec![refused.clone()]);
    assert_eq!(
        start_problem(&sandbox, &pod),
        None,
        "the entry is about a container that runs"
    );
    refused.container_id = None;
    let (sandbox, mut pod) = world(vec![refused]);
    let found = start_problem(&sandbox, &pod).unwrap();
    assert_eq!((found.reason, found.failed), (Reason::AccessDenied, true));
    assert!(refusal(&sandbox, &sandbox.spec.buckets[0]).is_some());
    as_volume(&mut pod, "another");
    assert_eq!(
        start_problem(&sandbox, &pod),
        None,
        "the volume is of another spec"
    );
}
