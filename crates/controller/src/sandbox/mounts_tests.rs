use super::*;
use crate::sandbox::fixtures::{
    at, bucket, pod as made, ready, reported as entry, sandbox, with_status,
};
use hutch_api::{Phase, annotations};
use hutch_core::names;

const HERE: Mounter = Mounter {
    present: true,
    foreign: false,
};
const NOWHERE: Mounter = Mounter {
    present: false,
    foreign: false,
};
const FOREIGN: Mounter = Mounter {
    present: false,
    foreign: true,
};

/// A sandbox with one bucket, its pod that runs since second 102, and what there is
/// to say of the bucket.
fn world(entries: Vec<BucketStatus>) -> (Sandbox, Pod) {
    let sandbox = sandbox(|spec| spec.buckets = vec![bucket("data")]);
    let pod = ready(made(&sandbox));
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

fn before_ready(sandbox: Sandbox) -> Sandbox {
    with_status(sandbox, |status| {
        status.phase = Phase::Ready;
        status.pod_uid = Some("pod-1".into());
    })
}

fn reason(sandbox: &Sandbox, pod: &Pod, mounter: Mounter, second: i64) -> &'static str {
    problem(sandbox, pod, mounter, at(second)).map_or("", |problem| problem.reason)
}

#[test]
fn a_bucket_is_what_the_node_says_of_it() {
    let says = |phase, why| {
        let (sandbox, pod) = world(vec![entry(&bucket("data"), phase, why)]);
        problem(&sandbox, &pod, HERE, at(200))
    };
    assert_eq!(says(BucketPhase::Mounted, None), None);
    let failed = says(BucketPhase::Failed, Some("AccessDenied")).unwrap();
    assert_eq!((failed.reason, failed.failed), ("AccessDenied", true));
    assert_eq!(failed.message, "bucket data: what is wrong");
    let down = says(BucketPhase::Degraded, Some("EndpointUnreachable")).unwrap();
    assert_eq!((down.reason, down.failed), ("EndpointUnreachable", false));
    assert_eq!(says(BucketPhase::Pending, None).unwrap().reason, "Mounting");
    let odd = says(BucketPhase::Failed, Some("a b")).unwrap();
    assert_eq!(odd.reason, "MounterFailed");
}

#[test]
fn the_worst_bucket_is_told() {
    let (one, two) = (bucket("data"), bucket("logs"));
    let (mut sandbox, pod) = world(vec![
        entry(&one, BucketPhase::Degraded, Some("EndpointUnreachable")),
        entry(&two, BucketPhase::Failed, Some("NoSuchBucket")),
    ]);
    sandbox.spec.buckets = vec![bucket("new"), one, two];
    assert_eq!(reason(&sandbox, &pod, HERE, 200), "NoSuchBucket");
    sandbox.spec.buckets.pop();
    assert_eq!(reason(&sandbox, &pod, HERE, 200), "EndpointUnreachable");
}

#[test]
fn what_was_said_of_another_container_or_entry_does_not_count() {
    let mounted = entry(&bucket("data"), BucketPhase::Mounted, None);
    let (mut sandbox, mut pod) = world(vec![mounted]);
    sandbox.spec.buckets[0].read_only = true;
    assert_eq!(reason(&sandbox, &pod, HERE, 200), "Mounting");
    sandbox.spec.buckets[0].read_only = false;
    assert_eq!(reason(&sandbox, &pod, HERE, 200), "");
    let status = pod.status.as_mut().unwrap();
    let main = &mut status.container_statuses.as_mut().unwrap()[0];
    main.container_id = Some("containerd://2".into());
    assert_eq!(reason(&sandbox, &pod, HERE, 200), "Mounting");
}

#[test]
fn a_mount_of_a_start_is_a_step_of_it_for_two_seconds() {
    let (sandbox, pod) = world(vec![]);
    assert_eq!(reason(&sandbox, &pod, HERE, 103), "Starting");
    assert_eq!(
        grace_period(&sandbox, &pod, HERE, None, at(103)),
        Some((at(104), false))
    );
    assert_eq!(reason(&sandbox, &pod, HERE, 104), "Mounting");
    assert_eq!(grace_period(&sandbox, &pod, HERE, None, at(104)), None);
}

#[test]
fn a_bucket_just_added_is_given_two_seconds_and_one_that_is_lost_none() {
    let (sandbox, pod) = world(vec![]);
    let sandbox = before_ready(sandbox);
    let settle = |changed_at, now| grace_period(&sandbox, &pod, HERE, changed_at, at(now));
    assert_eq!(settle(Some(at(300)), 301), Some((at(302), true)));
    assert_eq!(settle(Some(at(300)), 302), None);
    assert_eq!(settle(None, 301), None);
    let down = entry(
        &bucket("data"),
        BucketPhase::Degraded,
        Some("EndpointUnreachable"),
    );
    let (sandbox, pod) = world(vec![down]);
    let sandbox = before_ready(sandbox);
    assert_eq!(
        grace_period(&sandbox, &pod, HERE, Some(at(300)), at(301)),
        None
    );
}

#[test]
fn without_a_mounter_the_controller_says_so_and_what_to_install() {
    let (sandbox, pod) = world(vec![]);
    let found = problem(&sandbox, &pod, NOWHERE, at(103)).unwrap();
    assert_eq!((found.reason, found.failed), ("NoMounter", true));
    for word in ["node-1", "hutch-node", "--csi-driver"] {
        assert!(found.message.contains(word), "{}", found.message);
    }
    let own = entries(&sandbox, &pod, NOWHERE, at(103));
    assert_eq!((own.len(), own[0].phase), (1, BucketPhase::Failed));
    assert_eq!(own[0].reason.as_deref(), Some("NoMounter"));
    assert_eq!(own[0].container_id.as_deref(), Some("containerd://1"));
    // It stays as it is, and goes when there is a mounter.
    let sandbox = with_status(sandbox, |status| status.buckets = own.clone());
    assert_eq!(entries(&sandbox, &pod, NOWHERE, at(200)), own);
    assert_eq!(written(&sandbox), own);
    assert_eq!(reason(&sandbox, &pod, HERE, 200), "Mounting");
    assert!(entries(&sandbox, &pod, HERE, at(200)).is_empty());
}

#[test]
fn a_node_that_is_away_for_a_moment_changes_nothing() {
    let mounted = entry(&bucket("data"), BucketPhase::Mounted, None);
    let (sandbox, pod) = world(vec![mounted]);
    assert_eq!(reason(&sandbox, &pod, NOWHERE, 200), "");
    assert!(entries(&sandbox, &pod, NOWHERE, at(200)).is_empty());
    assert!(written(&sandbox).is_empty());
}

#[test]
fn a_volume_of_another_driver_is_believed_where_nobody_looks_after_it() {
    let (sandbox, mut pod) = world(vec![]);
    as_volume(&mut pod, &buckets::digest(&bucket("data")));
    assert_eq!(reason(&sandbox, &pod, FOREIGN, 200), "");
    let own = entries(&sandbox, &pod, FOREIGN, at(200));
    assert_eq!(
        (own[0].phase, own[0].mechanism),
        (BucketPhase::Mounted, Some(Mechanism::Csi))
    );
    let watched = Mounter {
        present: true,
        foreign: true,
    };
    assert_eq!(reason(&sandbox, &pod, watched, 200), "Mounting");
    assert!(entries(&sandbox, &pod, watched, at(200)).is_empty());
    // Our own driver's volumes are the node's to speak of.
    assert_eq!(reason(&sandbox, &pod, NOWHERE, 200), "Mounting");
}

#[test]
fn a_volume_of_an_entry_that_has_changed_waits_for_a_new_pod() {
    let mut mounted = entry(&bucket("data"), BucketPhase::Mounted, None);
    mounted.mechanism = Some(Mechanism::Csi);
    let (sandbox, mut pod) = world(vec![mounted.clone()]);
    as_volume(&mut pod, "another");
    for mounter in [HERE, FOREIGN] {
        assert_eq!(reason(&sandbox, &pod, mounter, 200), "SpecChanged");
        assert!(entries(&sandbox, &pod, mounter, at(200)).is_empty());
    }
    // Unless it is there in its stead.
    mounted.mechanism = Some(Mechanism::Live);
    let (sandbox, _) = world(vec![mounted]);
    assert_eq!(reason(&sandbox, &pod, HERE, 200), "");
}

#[test]
fn a_volume_that_is_refused_says_why_the_pod_does_not_start() {
    let mut refused = entry(&bucket("data"), BucketPhase::Failed, Some("AccessDenied"));
    refused.mechanism = Some(Mechanism::Csi);
    let (sandbox, pod) = world(vec![refused.clone()]);
    assert_eq!(
        before_start(&sandbox, &pod),
        None,
        "of a container that runs"
    );
    refused.container_id = None;
    let (sandbox, mut pod) = world(vec![refused]);
    let found = before_start(&sandbox, &pod).unwrap();
    assert_eq!((found.reason, found.failed), ("AccessDenied", true));
    assert!(refusal(&sandbox, &sandbox.spec.buckets[0]).is_some());
    as_volume(&mut pod, "another");
    assert_eq!(before_start(&sandbox, &pod), None, "of another entry");
}
