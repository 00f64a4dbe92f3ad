use super::*;
use crate::sandbox::fixtures::{
    at, claim as made_claim, container, in_state, pod as made_pod, ready, sandbox, terminated,
    waiting, with_status,
};
use crate::sandbox::problem::Problem;
use hutch_api::Persistence;

pub(super) fn input<'a>(
    sandbox: &'a Sandbox,
    pod: Option<&'a Pod>,
    claim: Option<&'a PersistentVolumeClaim>,
    verdict: &'a Verdict,
) -> StatusInput<'a> {
    StatusInput {
        sandbox,
        pod,
        claim,
        verdict,
        mount_support: MountSupport::default(),
        slept_at: None,
        resize_refused: None,
    }
}

/// Type, status and reason of each condition.
pub(super) fn conditions_of(status: &SandboxStatus) -> Vec<String> {
    let line = |c: &Condition| format!("{} {} {}", c.type_, c.status, c.reason);
    status.conditions.iter().map(line).collect()
}

fn message<'a>(status: &'a SandboxStatus, kind: &str) -> &'a str {
    &find(&status.conditions, kind).unwrap().message
}

#[test]
fn a_running_pod_makes_a_ready_sandbox() {
    let sandbox = sandbox(|_| ());
    let (pod, claim) = (ready(made_pod(&sandbox)), made_claim(&sandbox, "Bound"));
    let new = status(
        &input(&sandbox, Some(&pod), Some(&claim), &Verdict::Running),
        at(103),
    );
    assert_eq!(new.phase, Phase::Ready);
    assert_eq!(
        conditions_of(&new),
        [
            "Ready True Ready",
            "WorkspaceReady True Bound",
            "PodReady True Running",
            "AgentReady True Running"
        ]
    );
    assert_eq!(new.pod_uid.as_deref(), Some("pod-1"));
    assert_eq!(new.node.as_deref(), Some("node-1"));
    assert_eq!(new.image.as_deref(), Some("python:3.11-slim"));
    assert_eq!(new.security_profile, Some(SecurityProfile::Root));
    assert_eq!(new.started_at, Some(Time(at(102))));
    assert_eq!(new.observed_generation, Some(1));
}

#[test]
fn a_ready_pod_proves_that_its_claim_is_bound() {
    let sandbox = sandbox(|_| ());
    let (pod, claim) = (ready(made_pod(&sandbox)), made_claim(&sandbox, "Pending"));
    let verdict = Verdict::Running;
    let new = status(
        &input(&sandbox, Some(&pod), Some(&claim), &verdict),
        at(103),
    );
    assert_eq!(new.phase, Phase::Ready);
}

#[test]
fn a_start_needs_two_status_writes_and_its_steps_none() {
    let mut sandbox = sandbox(|_| ());
    let mut pod = made_pod(&sandbox);
    let claim = made_claim(&sandbox, "Pending");
    let bound = made_claim(&sandbox, "Bound");
    let verdict = Verdict::Running;
    let first = status(
        &input(&sandbox, Some(&pod), Some(&claim), &verdict),
        at(100),
    );
    assert!(worth_writing(
        &input(&sandbox, Some(&pod), Some(&claim), &verdict),
        &first
    ));
    assert_eq!(first.phase, Phase::Pending);
    sandbox.status = Some(first);
    let worth = |pod: &Pod, claim, second| {
        let input = input(&sandbox, Some(pod), Some(claim), &verdict);
        worth_writing(&input, &status(&input, at(second)))
    };
    assert!(!worth(&pod, &claim, 101));
    assert!(!worth(&pod, &bound, 101));
    assert!(!worth(&pod, &bound, 90));
    assert!(worth(&pod, &bound, 221));
    pod = ready(pod);
    assert!(worth(&pod, &bound, 102));
}

#[test]
fn a_change_by_others_needs_no_write_of_the_status() {
    let sandbox = sandbox(|_| ());
    let (pod, claim) = (ready(made_pod(&sandbox)), made_claim(&sandbox, "Bound"));
    let verdict = Verdict::Running;
    let first = status(
        &input(&sandbox, Some(&pod), Some(&claim), &verdict),
        at(103),
    );
    let sandbox = with_status(sandbox, |old| {
        *old = first;
        old.last_activity = Some(Time(at(500)));
        old.project_id = Some("P".to_owned());
        let synced = condition(DATABASE_SYNCED, Some(true), "Synced", "", None, at(500));
        old.conditions.push(synced);
    });
    let input = input(&sandbox, Some(&pod), Some(&claim), &verdict);
    let again = status(&input, at(600));
    assert_eq!((&again.last_activity, &again.project_id), (&None, &None));
    assert!(!worth_writing(&input, &again));
}

#[test]
fn a_failed_pull_is_reported_once_while_the_kubelet_retries() {
    let mut sandbox = sandbox(|_| ());
    let claim = made_claim(&sandbox, "Bound");
    let verdict = Verdict::Running;
    let conditions_of = |sandbox: &Sandbox, reason: &str, text: &str| {
        let pod = in_state(made_pod(sandbox), container(waiting(reason, text)));
        let input = input(sandbox, Some(&pod), Some(&claim), &verdict);
        let new = status(&input, at(103));
        let worth = worth_writing(&input, &new);
        (new, worth)
    };
    let (first, worth) = conditions_of(&sandbox, "ErrImagePull", "dial tcp :4001: not found");
    assert!(worth && first.phase == Phase::Failed);
    assert_eq!(event(None, &first).unwrap().reason, Reason::ImagePullFailed);
    sandbox.status = Some(first);
    for (reason, text) in [
        ("ImagePullBackOff", "Back-off pulling image \"x\""),
        (
            "ImagePullBackOff",
            "Back-off pulling image \"x\": ErrImagePull: dial tcp :4002: not found",
        ),
        ("ErrImagePull", "dial tcp :4003: not found"),
    ] {
        assert!(!conditions_of(&sandbox, reason, text).1, "{reason} {text}");
    }
    assert!(conditions_of(&sandbox, "ErrImagePull", "unauthorized").1);
}

#[test]
fn a_sleeping_sandbox_reports_the_cause_and_keeps_its_claim() {
    let sandbox = with_status(sandbox(|_| ()), |old| {
        old.claim_name = Some("box-claim".into());
    });
    let claim = made_claim(&sandbox, "Bound");
    for (verdict, reason) in [
        (Verdict::Suspended, "Suspended"),
        (Verdict::Asleep, "Asleep"),
    ] {
        let new = status(&input(&sandbox, None, Some(&claim), &verdict), at(103));
        assert_eq!(new.phase, Phase::Suspended);
        assert_eq!(conditions_of(&new)[0], format!("Ready False {reason}"));
        assert_eq!(conditions_of(&new)[1], "WorkspaceReady True Bound");
        assert_eq!(
            (new.pod_name.as_deref(), new.started_at.clone()),
            (None, None)
        );
        assert_eq!(event(None, &new).unwrap().kind, EventType::Normal);
    }
}

#[test]
fn a_problem_is_reported_with_its_phase_and_its_event() {
    let sandbox = sandbox(|_| ());
    let claim = made_claim(&sandbox, "Bound");
    let blocked = |problem| {
        let verdict = Verdict::Blocked(problem);
        status(&input(&sandbox, None, Some(&claim), &verdict), at(103))
    };
    let quota = blocked(Problem::waiting(Reason::QuotaExceeded, "exceeded quota"));
    assert_eq!(quota.phase, Phase::Pending);
    assert_eq!(message(&quota, READY), "exceeded quota");
    let warning = StatusEvent {
        kind: EventType::Warning,
        reason: Reason::QuotaExceeded,
        note: "exceeded quota",
    };
    assert_eq!(event(None, &quota), Some(warning));
    assert_eq!(event(Some(&quota), &quota), None);
    let denied = blocked(Problem::failed(Reason::AdmissionDenied, "no"));
    assert_eq!(denied.phase, Phase::Failed);
    assert_eq!(event(None, &blocked(Problem::starting("x"))), None);
}

#[test]
fn a_lost_or_ending_claim_makes_the_sandbox_not_ready() {
    let sandbox = with_status(sandbox(|_| ()), |old| {
        old.claim_name = Some("box-claim".into());
    });
    let pod = ready(made_pod(&sandbox));
    let verdict = Verdict::Running;
    let lost = status(&input(&sandbox, Some(&pod), None, &verdict), at(103));
    assert_eq!(
        conditions_of(&lost)[..2],
        ["Ready False ClaimLost", "WorkspaceReady False ClaimLost"]
    );
    assert_eq!(lost.claim_name.as_deref(), Some("box-claim"));
    let mut ending = made_claim(&sandbox, "Bound");
    ending.metadata.deletion_timestamp = Some(Time(at(1)));
    let new = status(
        &input(&sandbox, Some(&pod), Some(&ending), &verdict),
        at(103),
    );
    assert_eq!(
        (new.phase, conditions_of(&new)[0].as_str()),
        (Phase::Failed, "Ready False ClaimTerminating")
    );
}

#[test]
fn a_refused_resize_stays_in_the_status() {
    let mut sandbox = sandbox(|spec| spec.workspace.size = "1Gi".into());
    let claim = made_claim(&sandbox, "Bound");
    sandbox.spec.workspace.size = "2Gi".into();
    let pod = ready(made_pod(&sandbox));
    let verdict = Verdict::Running;
    let refused = StatusInput {
        resize_refused: Some("not supported"),
        ..input(&sandbox, Some(&pod), Some(&claim), &verdict)
    };
    let first = status(&refused, at(103));
    assert_eq!(
        conditions_of(&first)[1],
        "WorkspaceReady True ResizeRefused"
    );
    assert!(message(&first, WORKSPACE_READY).contains("stays at 1Gi and cannot grow to 2Gi"));
    sandbox.status = Some(first);
    let again = input(&sandbox, Some(&pod), Some(&claim), &verdict);
    assert!(!worth_writing(&again, &status(&again, at(200))));
}

#[test]
fn fields_that_wait_for_a_restart_are_named() {
    let mut sandbox = sandbox(|_| ());
    let pod = ready(made_pod(&sandbox));
    sandbox.spec.image = Some("other".into());
    let claim = made_claim(&sandbox, "Bound");
    let verdict = Verdict::Running;
    let new = status(
        &input(&sandbox, Some(&pod), Some(&claim), &verdict),
        at(103),
    );
    assert_eq!(new.phase, Phase::Ready);
    let text = message(&new, RESTART_PENDING);
    assert!(text.contains(": image;") && text.contains(annotations::RESTART));
    assert_eq!(new.image.as_deref(), Some("python:3.11-slim"));
}

#[test]
fn a_pod_of_somebody_else_does_not_appear_in_the_status() {
    let sandbox = sandbox(|_| ());
    let mut pod = ready(made_pod(&sandbox));
    pod.metadata.owner_references = None;
    pod.metadata.labels = None;
    let verdict = Verdict::Blocked(Problem::failed(Reason::NameConflict, "x"));
    let new = status(&input(&sandbox, Some(&pod), None, &verdict), at(103));
    assert_eq!((new.phase, new.pod_name), (Phase::Failed, None));
}

#[test]
fn an_ephemeral_workspace_warns_if_the_sandbox_can_sleep() {
    let verdict = Verdict::Running;
    let of = |sandbox: &Sandbox| {
        let new = status(&input(sandbox, None, None, &verdict), at(103));
        message(&new, WORKSPACE_READY).to_owned()
    };
    let mut sandbox = sandbox(|spec| spec.workspace.persistence = Persistence::Ephemeral);
    assert!(!of(&sandbox).contains("sleeps"));
    sandbox.spec.lifecycle.idle_timeout = Some("1h".into());
    assert!(of(&sandbox).contains("sleeps"));
}

#[test]
fn a_restart_after_running_out_of_memory_is_reported() {
    let sandbox = sandbox(|_| ());
    let mut pod = ready(made_pod(&sandbox));
    let statuses = pod
        .status
        .as_mut()
        .unwrap()
        .container_statuses
        .as_mut()
        .unwrap();
    statuses[0].last_state = Some(terminated("OOMKilled", 137));
    statuses[0].restart_count = 2;
    let claim = made_claim(&sandbox, "Bound");
    let verdict = Verdict::Running;
    let new = status(
        &input(&sandbox, Some(&pod), Some(&claim), &verdict),
        at(103),
    );
    assert_eq!(new.phase, Phase::Ready);
    assert_eq!(
        message(&new, AGENT_READY),
        "started again after it ran out of memory (restart 2)"
    );
}
