use std::sync::Arc;

use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::sandbox::fixtures::{
    at, claim, condition, observed, pod as created, ready, sandbox, settings,
};
use crate::sandbox::plan::{PodStep, plan};

/// A sandbox whose pod was scheduled at 100, and its claim.
fn scheduled(phase: &str) -> (Observed, Pod) {
    let mut observed = observed(sandbox(|_| ()));
    observed.claim = Some(Arc::new(claim(&observed.sandbox, phase)));
    let mut pod = created(&observed.sandbox);
    let mut bound = condition("PodScheduled", "True", "");
    bound.last_transition_time = Some(Time(at(100)));
    pod.status = Some(PodStatus {
        conditions: Some(vec![bound]),
        ..PodStatus::default()
    });
    (observed, pod)
}

#[test]
fn a_pod_that_waits_although_its_claims_are_bound_is_patched_once() {
    let (observed, mut pod) = scheduled("Bound");
    let (due, patch) = nudge(&observed, &pod).unwrap();
    assert_eq!(due, at(102));
    let (key, value) = (annotations::CLAIMS_BOUND, "true");
    assert_eq!(patch["metadata"]["annotations"][key], value);
    pod.annotations_mut().insert(key.into(), value.into());
    assert_eq!(nudge(&observed, &pod), None);
}

#[test]
fn a_pod_that_waits_for_a_claim_or_has_its_volumes_is_not_patched() {
    let (waits, pod) = scheduled("Pending");
    assert_eq!(nudge(&waits, &pod), None);
    let (observed, mut pod) = scheduled("Bound");
    assert_eq!(nudge(&observed, &created(&observed.sandbox)), None);
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.push(condition("PodReadyToStartContainers", "True", ""));
    assert_eq!(nudge(&observed, &pod), None);
    assert_eq!(nudge(&observed, &ready(pod)), None);
    let mut without = observed;
    without.claim = None;
    assert_eq!(nudge(&without, &scheduled("Bound").1), None);
}

#[test]
fn the_pod_is_patched_when_the_grace_period_has_passed() {
    let (mut observed, pod) = scheduled("Bound");
    let patch = nudge(&observed, &pod).unwrap().1;
    observed.pod = Some(Arc::new(pod));
    let before = plan(&observed, &settings(), at(101));
    assert_eq!(
        (before.pod, before.requeue_at),
        (PodStep::Keep, Some(at(102)))
    );
    let then = plan(&observed, &settings(), at(102)).pod;
    assert_eq!(then, PodStep::Annotate(patch));
}
