use super::*;
use crate::sandbox::fixtures::{
    at, claim as bound, condition, container, in_state, pod as created, ready, running, sandbox,
    terminated, waiting,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn problem_in(state: ContainerState) -> Problem {
    let pod_of = created(&sandbox(|_| ()));
    pod(&in_state(pod_of, container(state)), at(101)).unwrap()
}

#[test]
fn a_pod_that_runs_has_no_problem() {
    assert_eq!(pod(&ready(created(&sandbox(|_| ()))), at(101)), None);
}

#[test]
fn all_states_of_a_failed_pull_have_one_reason_and_one_message() {
    let failed = problem_in(waiting("ErrImagePull", "failed to resolve: not found"));
    let backed_off = problem_in(waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"python:3.11-slim\": ErrImagePull: failed to resolve: not found",
    ));
    assert_eq!(failed, backed_off);
    assert_eq!(failed.reason, Reason::ImagePullFailed);
    assert_eq!(
        failed.message,
        "image python:3.11-slim cannot be pulled: failed to resolve: not found"
    );
    let older = problem_in(waiting("ImagePullBackOff", "Back-off pulling image \"x\""));
    assert!(same_pull_failure(&failed.message, &older.message));
    assert!(same_pull_failure("dial 10.0.0.1:4123", "dial 10.0.0.1:99"));
    assert!(!same_pull_failure(
        "image x cannot be pulled: a",
        "image x cannot be pulled: b"
    ));
}

#[test]
fn a_file_system_without_idmapped_mounts_is_explained() {
    let problem = problem_in(waiting(
        "CreateContainerError",
        "runc: failed to set MOUNT_ATTR_IDMAP on /data",
    ));
    assert_eq!(problem.reason, Reason::ContainerCannotStart);
    assert!(problem.failed && problem.message.contains("securityProfile Restricted"));
}

#[test]
fn the_last_end_of_a_container_gives_the_reason() {
    let crashing = |reason: &str, code| {
        let mut status = container(waiting("CrashLoopBackOff", "back-off"));
        status.last_state = Some(terminated(reason, code));
        pod(&in_state(created(&sandbox(|_| ())), status), at(101)).unwrap()
    };
    assert_eq!(crashing("OOMKilled", 137).reason, Reason::OOMKilled);
    let exited = crashing("Error", 3);
    assert!(exited.failed && exited.message.contains("exit code 3"));
    assert!(!problem_in(terminated("Error", 3)).failed);
    assert_eq!(
        problem_in(terminated("OOMKilled", 137)).reason,
        Reason::OOMKilled
    );
}

#[test]
fn a_completed_init_container_is_no_problem() {
    let mut pod_of = in_state(
        created(&sandbox(|_| ())),
        container(waiting("PodInitializing", "")),
    );
    let mut init = container(terminated("Completed", 0));
    init.name = "agent".into();
    pod_of.status.as_mut().unwrap().init_container_statuses = Some(vec![init]);
    assert_eq!(pod(&pod_of, at(101)).unwrap().reason, Reason::Starting);
}

#[test]
fn a_pod_reports_its_obstacle_only_after_a_while() {
    let mut waits = created(&sandbox(|_| ()));
    waits.status = Some(k8s_openapi::api::core::v1::PodStatus {
        conditions: Some(vec![condition("PodScheduled", "False", "0/1 nodes")]),
        ..Default::default()
    });
    assert_eq!(pod(&waits, at(119)).unwrap().reason, Reason::Starting);
    let problem = pod(&waits, at(120)).unwrap();
    assert_eq!(
        (problem.reason, problem.message.as_str()),
        (Reason::Unschedulable, "0/1 nodes")
    );

    let creating = in_state(
        created(&sandbox(|_| ())),
        container(waiting("ContainerCreating", "")),
    );
    assert_eq!(pod(&creating, at(219)).unwrap().reason, Reason::Starting);
    let slow = pod(&creating, at(220)).unwrap();
    assert_eq!(slow.reason, Reason::StartingSlowly);
    assert!(slow.message.contains("kubectl describe pod -n ns box"));
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let mut lost = in_state(created(&sandbox(|_| ())), container(running()));
    lost.status.as_mut().unwrap().conditions = Some(vec![condition("Ready", "False", "")]);
    let problem = pod(&lost, at(101)).unwrap();
    assert_eq!(problem.reason, Reason::NodeNotReady);
    assert!(problem.message.contains("node-1"));
}

#[test]
fn an_ended_pod_has_the_reason_of_its_end() {
    let mut evicted = created(&sandbox(|_| ()));
    assert_eq!(end_of(&evicted), None);
    evicted.status = Some(k8s_openapi::api::core::v1::PodStatus {
        phase: Some("Failed".into()),
        reason: Some("Evicted".into()),
        message: Some("low on memory".into()),
        ..Default::default()
    });
    assert_eq!(end_of(&evicted).as_deref(), Some("Evicted: low on memory"));
}

#[test]
fn an_ending_or_lost_claim_is_a_problem() {
    let owner = sandbox(|_| ());
    assert_eq!(claim(&bound(&owner, "Bound")), None);
    assert_eq!(
        claim(&bound(&owner, "Lost")).unwrap().reason,
        Reason::ClaimLost
    );
    let mut ending = bound(&owner, "Bound");
    ending.metadata.deletion_timestamp = Some(Time(at(1)));
    assert_eq!(claim(&ending).unwrap().reason, Reason::ClaimTerminating);
}
