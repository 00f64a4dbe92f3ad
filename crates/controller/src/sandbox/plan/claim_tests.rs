use std::sync::Arc;

use super::tests::{awake, edit, planned, reason};
use super::*;
use crate::sandbox::fixtures::{at, claim, observed, sandbox};
use hutch_api::ReclaimPolicy;
use hutch_core::conditions;
use hutch_core::reasons::Reason;

#[test]
fn a_claim_that_was_created_before_a_crash_is_used() {
    let mut observed = observed(sandbox(|_| ()));
    observed.claim = Some(Arc::new(claim(&observed.sandbox, "Pending")));
    let plan = planned(&observed, 100);
    assert_eq!(plan.claim, ClaimStep::Keep);
    assert!(matches!(plan.pod, PodStep::Create(_)));
}

#[test]
fn a_lost_claim_is_created_again_only_without_a_pod() {
    let mut observed = awake(|_| ());
    observed.claim = None;
    assert_eq!(planned(&observed, 200).claim, ClaimStep::Keep);
    observed.pod = None;
    let plan = planned(&observed, 200);
    assert!(matches!(plan.claim, ClaimStep::Create { lost: true, .. }));
    assert!(matches!(plan.pod, PodStep::Create(_)));
    edit(&mut observed, |s| s.spec.suspended = true);
    assert_eq!(planned(&observed, 200).claim, ClaimStep::Keep);
}

#[test]
fn no_pod_is_created_on_a_claim_that_is_ending() {
    let mut observed = awake(|_| ());
    observed.pod = None;
    let mut ending = claim(&observed.sandbox, "Bound");
    ending.metadata.deletion_timestamp = Some(Time(at(1)));
    observed.claim = Some(Arc::new(ending));
    let plan = planned(&observed, 200);
    assert_eq!(
        (reason(&plan), plan.pod),
        (Some(Reason::ClaimTerminating), PodStep::Keep)
    );
}

#[test]
fn the_policy_and_the_size_of_a_claim_change_without_a_new_pod() {
    let mut observed = awake(|_| ());
    edit(&mut observed, |s| {
        s.spec.workspace.reclaim_policy = ReclaimPolicy::Retain;
        s.spec.workspace.size = "20Gi".into();
    });
    let plan = planned(&observed, 200);
    assert!(matches!(
        plan.claim,
        ClaimStep::Adjust {
            reclaim: Some(_),
            resize: Some(_)
        }
    ));
    assert_eq!(plan.pod, PodStep::Keep);
    edit(&mut observed, |s| {
        let refused = conditions::condition(
            conditions::WORKSPACE_READY,
            Some(true),
            Reason::ResizeRefused.as_str(),
            "",
            Some(1),
            at(200),
        );
        s.status.as_mut().unwrap().conditions = vec![refused];
    });
    let plan = planned(&observed, 200);
    assert!(matches!(
        plan.claim,
        ClaimStep::Adjust {
            reclaim: Some(_),
            resize: None
        }
    ));
    edit(&mut observed, |s| s.metadata.generation = Some(2));
    let plan = planned(&observed, 200);
    assert!(matches!(
        plan.claim,
        ClaimStep::Adjust {
            resize: Some(_),
            ..
        }
    ));
}

#[test]
fn an_ephemeral_workspace_has_no_claim() {
    let plan = planned(
        &observed(sandbox(|spec| {
            spec.workspace.persistence = Persistence::Ephemeral
        })),
        100,
    );
    assert_eq!(plan.claim, ClaimStep::Keep);
    assert!(matches!(plan.pod, PodStep::Create(_)));
}
