use super::tests::{conditions_of, input};
use super::*;
use crate::sandbox::fixtures::{
    at, bucket, claim as made_claim, pod as made_pod, ready, reported as entry_of, sandbox,
    with_status,
};
use crate::sandbox::problem::Problem;
use hutch_api::BucketPhase;

/// The status of a sandbox with one bucket, for which `hutch-node` reports `phase`. `before` is
/// the sandbox's phase if this pod was ready before.
fn with_bucket(before: Option<Phase>, phase: BucketPhase, reason: Option<&str>) -> SandboxStatus {
    let entry = entry_of(&bucket("data"), phase, reason);
    let sandbox = with_status(
        sandbox(|spec| spec.buckets = vec![bucket("data")]),
        |status| {
            status.buckets = vec![entry];
            status.phase = before.unwrap_or_default();
            status.pod_uid = before.map(|_| "pod-1".into());
        },
    );
    let (pod, claim) = (ready(made_pod(&sandbox)), made_claim(&sandbox, "Bound"));
    let mut input = input(&sandbox, Some(&pod), Some(&claim), &Verdict::Running);
    input.mount_support.node_component = true;
    status(&input, at(200))
}

#[test]
fn a_failed_bucket_delays_a_first_start_and_degrades_a_ready_sandbox() {
    let down = Some("EndpointUnreachable");
    for (before, phase, reason, wanted) in [
        (None, BucketPhase::Mounted, None, Phase::Ready),
        (None, BucketPhase::Pending, down, Phase::Pending),
        (None, BucketPhase::Failed, down, Phase::Failed),
        (
            Some(Phase::Ready),
            BucketPhase::Failed,
            down,
            Phase::Degraded,
        ),
        (
            Some(Phase::Degraded),
            BucketPhase::Degraded,
            down,
            Phase::Degraded,
        ),
        (
            Some(Phase::Degraded),
            BucketPhase::Mounted,
            None,
            Phase::Ready,
        ),
    ] {
        let new = with_bucket(before, phase, reason);
        assert_eq!(new.phase, wanted, "{before:?} {phase:?}");
        let holds = wanted == Phase::Ready;
        let lines = conditions_of(&new);
        let (ready, mounted) = if holds {
            ("Ready True Ready", "BucketsReady True Mounted")
        } else {
            (
                "Ready False EndpointUnreachable",
                "BucketsReady False EndpointUnreachable",
            )
        };
        assert_eq!((lines[0].as_str(), lines[4].as_str()), (ready, mounted));
        assert!(lines.contains(&"PodReady True Running".to_owned()));
        assert!(new.buckets.is_empty(), "hutch-node owns these entries");
    }
}

#[test]
fn without_a_pod_the_buckets_report_the_problem_of_the_pod() {
    let sandbox = sandbox(|spec| spec.buckets = vec![bucket("data")]);
    let problem = Problem::failed(Reason::HandleInUse, "somebody uses it");
    let new = status(
        &input(&sandbox, None, None, &Verdict::Blocked(problem)),
        at(100),
    );
    assert_eq!(new.phase, Phase::Failed);
    let lines = conditions_of(&new);
    assert_eq!(lines[0], "Ready False HandleInUse");
    assert_eq!(lines[4], "BucketsReady False HandleInUse");
}

#[test]
fn an_entry_of_the_controller_is_written_once_and_removed_later() {
    let sandbox = sandbox(|spec| spec.buckets = vec![bucket("data")]);
    let (pod, claim) = (ready(made_pod(&sandbox)), made_claim(&sandbox, "Bound"));
    let look = |sandbox: &Sandbox, present: bool, second: i64| {
        let mut input = input(sandbox, Some(&pod), Some(&claim), &Verdict::Running);
        input.mount_support.node_component = present;
        let new = status(&input, at(second));
        let worth = worth_writing(&input, &new);
        (new, worth)
    };
    let (first, worth) = look(&sandbox, false, 103);
    assert!(worth && first.phase == Phase::Failed && first.buckets.len() == 1);
    let sandbox = with_status(sandbox, |status| *status = first);
    assert!(!look(&sandbox, false, 200).1);
    let (back, worth) = look(&sandbox, true, 200);
    assert!(worth && back.buckets.is_empty());
}
