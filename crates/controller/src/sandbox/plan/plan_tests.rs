use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::sandbox::fixtures::{
    at, claim, container, in_state, node, observed, pod as created, ready, sandbox, settings,
    waiting, with_status,
};
use hutch_api::{Phase, SecurityProfile, annotations};
use hutch_core::reasons::Reason;
use k8s_openapi::api::core::v1::PodStatus;
use kube::ResourceExt;

pub(super) fn planned(observed: &Observed, second: i64) -> Plan {
    plan(observed, &settings(), at(second))
}

/// A sandbox that runs, with its pod and its claim.
pub(super) fn awake(change: impl FnOnce(&mut hutch_api::SandboxSpec)) -> Observed {
    let sandbox = with_status(sandbox(change), |status| {
        status.phase = Phase::Ready;
        status.started_at = Some(Time(at(102)));
        status.claim_name = Some("box-claim".into());
    });
    let mut observed = observed(sandbox);
    observed.pod = Some(Arc::new(ready(created(&observed.sandbox))));
    observed.claim = Some(Arc::new(claim(&observed.sandbox, "Bound")));
    observed
}

pub(super) fn edit(observed: &mut Observed, change: impl FnOnce(&mut Sandbox)) {
    let mut sandbox = observed.sandbox.as_ref().clone();
    change(&mut sandbox);
    observed.sandbox = Arc::new(sandbox);
}

fn edit_pod(observed: &mut Observed, change: impl FnOnce(&mut Pod)) {
    let mut pod = observed.pod.as_deref().cloned().unwrap();
    change(&mut pod);
    observed.pod = Some(Arc::new(pod));
}

pub(super) fn reason(plan: &Plan) -> Option<Reason> {
    match &plan.verdict {
        Verdict::Blocked(problem) => Some(problem.reason),
        _ => None,
    }
}

#[test]
fn a_new_sandbox_gets_its_claim_and_its_pod_at_once() {
    let plan = planned(&observed(sandbox(|_| ())), 100);
    assert!(matches!(plan.claim, ClaimStep::Create { lost: false, .. }));
    assert!(matches!(plan.pod, PodStep::Create(_)));
    assert_eq!((plan.verdict, plan.requeue_at), (Verdict::Running, None));
}

#[test]
fn a_sandbox_that_matches_its_spec_needs_no_write() {
    let plan = planned(&awake(|_| ()), 200);
    assert_eq!((plan.claim, plan.pod), (ClaimStep::Keep, PodStep::Keep));
    assert_eq!((plan.verdict, plan.requeue_at), (Verdict::Running, None));
}

#[test]
fn a_sandbox_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let mut observed = observed(sandbox(|spec| spec.lifecycle.ttl = Some("10s".into())));
    edit(&mut observed, |s| {
        s.metadata.deletion_timestamp = Some(Time(at(1)))
    });
    let plan = planned(&observed, 200);
    assert!(!plan.expire);
    assert_eq!(
        (plan.verdict, plan.pod),
        (Verdict::Terminating, PodStep::Keep)
    );
}

#[test]
fn a_sandbox_is_deleted_when_its_time_to_live_has_passed() {
    let observed = awake(|spec| spec.lifecycle.ttl = Some("60s".into()));
    let before = planned(&observed, 159);
    assert_eq!((before.expire, before.requeue_at), (false, Some(at(160))));
    assert!(planned(&observed, 160).expire);
}

#[test]
fn a_suspended_sandbox_has_a_claim_and_no_pod() {
    let plan = planned(&observed(sandbox(|spec| spec.suspended = true)), 100);
    assert!(matches!(plan.claim, ClaimStep::Create { .. }));
    assert_eq!(
        (plan.pod, plan.verdict),
        (PodStep::Keep, Verdict::Suspended)
    );
    let plan = planned(&awake(|spec| spec.suspended = true), 200);
    assert_eq!(plan.pod, PodStep::Delete(Removal::NotNeeded));
}

#[test]
fn the_status_says_asleep_before_the_pod_is_deleted() {
    let mut observed = awake(|spec| spec.lifecycle.idle_timeout = Some("30s".into()));
    let before = planned(&observed, 131);
    assert_eq!(
        (before.verdict, before.requeue_at),
        (Verdict::Running, Some(at(132)))
    );
    let due = planned(&observed, 132);
    assert_eq!(due.slept_at, Some(Time(at(132))));
    assert_eq!((due.verdict, due.pod), (Verdict::Asleep, PodStep::Keep));

    edit(&mut observed, |s| {
        s.status.as_mut().unwrap().slept_at = Some(Time(at(132)));
    });
    let written = planned(&observed, 133);
    assert_eq!(written.slept_at, Some(Time(at(132))));
    assert_eq!(written.pod, PodStep::Delete(Removal::NotNeeded));

    edit(&mut observed, |s| {
        let status = s.status.as_mut().unwrap();
        (status.started_at, status.last_activity) = (None, Some(Time(at(140))));
    });
    observed.pod = None;
    let woken = planned(&observed, 140);
    assert!(matches!(woken.pod, PodStep::Create(_)) && woken.slept_at.is_none());
}

#[test]
fn a_lost_pod_is_replaced_with_the_same_claim() {
    let mut observed = awake(|_| ());
    observed.pod = None;
    let plan = planned(&observed, 200);
    assert_eq!(plan.claim, ClaimStep::Keep);
    assert!(matches!(plan.pod, PodStep::Create(_)));
}

#[test]
fn an_ended_pod_is_replaced_after_a_backoff() {
    let mut observed = awake(|_| ());
    edit_pod(&mut observed, |pod| {
        pod.status = Some(PodStatus {
            phase: Some("Failed".into()),
            reason: Some("Evicted".into()),
            ..Default::default()
        });
    });
    let plan = planned(&observed, 200);
    assert_eq!(reason(&plan), Some(Reason::PodLost));
    assert_eq!(plan.pod, PodStep::Delete(Removal::Ended));
    observed.pod_backoff = Some(Duration::from_secs(4));
    let plan = planned(&observed, 200);
    assert_eq!((plan.pod, plan.requeue_at), (PodStep::Keep, Some(at(204))));

    observed.pod = None;
    let plan = planned(&observed, 200);
    assert_eq!(
        (plan.verdict, plan.pod),
        (Verdict::Unchanged, PodStep::Keep)
    );
    assert_eq!(plan.requeue_at, Some(at(204)));
}

#[test]
fn a_pod_that_does_not_end_is_reported_as_stuck() {
    let mut observed = awake(|_| ());
    edit_pod(&mut observed, |pod| {
        pod.metadata.deletion_timestamp = Some(Time(at(200)));
    });
    let plan = planned(&observed, 205);
    assert_eq!(
        (reason(&plan), plan.requeue_at),
        (Some(Reason::PodLost), Some(at(215)))
    );
    assert_eq!(plan.pod, PodStep::Keep);
    let plan = planned(&observed, 215);
    assert_eq!(
        (reason(&plan), plan.pod),
        (Some(Reason::PodStuck), PodStep::Keep)
    );
    observed.node_known = false;
    let plan = planned(&observed, 215);
    assert_eq!(plan.pod, PodStep::Delete(Removal::NodeGone));
    edit(&mut observed, |s| s.status = None);
    assert_eq!(reason(&planned(&observed, 205)), Some(Reason::Starting));
}

#[test]
fn a_pod_that_has_never_run_is_replaced_at_once_when_the_spec_changes() {
    let mut observed = awake(|_| ());
    let stuck = container(waiting("ImagePullBackOff", "no such image"));
    edit_pod(&mut observed, |pod| *pod = in_state(pod.clone(), stuck));
    assert_eq!(planned(&observed, 200).pod, PodStep::Keep);
    edit(&mut observed, |s| s.spec.image = Some("other:1".into()));
    let plan = planned(&observed, 200);
    assert_eq!(plan.pod, PodStep::Delete(Removal::NeverRan));
    assert_eq!(reason(&plan), Some(Reason::Starting));
    let mut crashed = container(waiting("CrashLoopBackOff", ""));
    crashed.restart_count = 1;
    edit_pod(&mut observed, |pod| *pod = in_state(pod.clone(), crashed));
    assert_eq!(planned(&observed, 200).pod, PodStep::Keep, "it has run");
}

#[test]
fn a_changed_spec_replaces_a_running_pod_only_after_a_restart_request() {
    let mut observed = awake(|_| ());
    edit(&mut observed, |s| s.spec.image = Some("other".into()));
    assert_eq!(planned(&observed, 200).pod, PodStep::Keep);
    let restart = |observed: &mut Observed, value: &str| {
        edit(observed, |s| {
            s.annotations_mut()
                .insert(annotations::RESTART.into(), value.into());
        });
    };
    restart(&mut observed, "1");
    assert_eq!(
        planned(&observed, 200).pod,
        PodStep::Delete(Removal::Restart)
    );

    observed.pod = Some(Arc::new(ready(created(&observed.sandbox))));
    assert_eq!(planned(&observed, 200).pod, PodStep::Keep);
    restart(&mut observed, "2");
    assert_eq!(
        planned(&observed, 200).pod,
        PodStep::Delete(Removal::Restart)
    );
}

#[test]
fn the_project_is_written_on_the_running_pod() {
    let mut observed = awake(|_| ());
    edit(&mut observed, |s| {
        s.spec.project = Some(hutch_api::Project { id: "p 1".into() })
    });
    let PodStep::Annotate(patch) = planned(&observed, 200).pod else {
        panic!("no patch");
    };
    assert_eq!(
        patch["metadata"]["annotations"][annotations::PROJECT],
        "p 1"
    );
    observed.pod = Some(Arc::new(ready(created(&observed.sandbox))));
    edit(&mut observed, |s| s.spec.project = None);
    let PodStep::Annotate(patch) = planned(&observed, 200).pod else {
        panic!("no patch");
    };
    assert!(patch["metadata"]["annotations"][annotations::PROJECT].is_null());
}

#[test]
fn an_object_of_somebody_else_is_never_changed() {
    let mut observed = awake(|spec| spec.suspended = true);
    edit_pod(&mut observed, |pod| {
        pod.metadata.owner_references = None;
        pod.metadata.labels = None;
    });
    assert_eq!(planned(&observed, 200).pod, PodStep::Keep);
    edit(&mut observed, |s| s.spec.suspended = false);
    let plan = planned(&observed, 200);
    assert_eq!(
        (reason(&plan), plan.pod),
        (Some(Reason::NameConflict), PodStep::Keep)
    );
    edit_pod(&mut observed, |pod| {
        pod.metadata.owner_references = sandbox(|_| ()).owner_reference().map(|mut owner| {
            owner.uid = "earlier".into();
            vec![owner]
        });
    });
    assert_eq!(reason(&planned(&observed, 200)), Some(Reason::Starting));

    observed.pod = None;
    let mut foreign = claim(&observed.sandbox, "Bound");
    foreign.metadata.labels = None;
    foreign.metadata.owner_references = None;
    observed.claim = Some(Arc::new(foreign));
    let plan = planned(&observed, 200);
    assert_eq!(
        (reason(&plan), plan.pod, plan.claim),
        (Some(Reason::NameConflict), PodStep::Keep, ClaimStep::Keep)
    );
}

#[test]
fn a_root_pod_is_never_created_without_a_user_namespace() {
    let mut observed = observed(sandbox(|spec| {
        spec.security_profile = Some(SecurityProfile::Root)
    }));
    observed.nodes = vec![Arc::new(node(false))];
    let plan = planned(&observed, 100);
    assert_eq!(
        (reason(&plan), plan.pod),
        (Some(Reason::UserNamespacesUnsupported), PodStep::Keep)
    );
}

#[test]
fn a_cache_that_lags_is_read_again_later() {
    let mut observed = awake(|_| ());
    observed.cache_lags = true;
    assert_eq!(planned(&observed, 200).requeue_at, Some(at(205)));
}

#[test]
fn a_starting_pod_is_checked_again_when_it_counts_as_slow() {
    let mut observed = awake(|_| ());
    observed.pod = Some(Arc::new(created(&observed.sandbox)));
    assert_eq!(planned(&observed, 101).requeue_at, Some(at(120)));
    assert_eq!(planned(&observed, 121).requeue_at, Some(at(220)));
    assert_eq!(planned(&observed, 220).requeue_at, None);
}
