use super::*;
use crate::sandbox::fixtures::{
    at, claim as bound, condition, container, in_state, pod as made, ready, running, sandbox,
    terminated, waiting,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn said(state: ContainerState) -> Problem {
    let pod_of = made(&sandbox(|_| ()));
    pod(&in_state(pod_of, container(state)), at(101)).unwrap()
}

#[test]
fn a_pod_that_runs_has_no_problem() {
    assert_eq!(pod(&ready(made(&sandbox(|_| ()))), at(101)), None);
}

#[test]
fn all_that_pulling_says_is_one_reason_with_its_cause() {
    let failed = said(waiting("ErrImagePull", "failed to resolve: not found"));
    let backed_off = said(waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"python:3.11-slim\": ErrImagePull: failed to resolve: not found",
    ));
    assert_eq!(failed, backed_off);
    assert_eq!(failed.reason, "ImagePullFailed");
    assert_eq!(
        failed.message,
        "image python:3.11-slim cannot be pulled: failed to resolve: not found"
    );
    let older = said(waiting("ImagePullBackOff", "Back-off pulling image \"x\""));
    assert!(same_pull_failure(&failed.message, &older.message));
    assert!(same_pull_failure("dial 10.0.0.1:4123", "dial 10.0.0.1:99"));
    assert!(!same_pull_failure(
        "image x cannot be pulled: a",
        "image x cannot be pulled: b"
    ));
}

#[test]
fn a_file_system_that_a_user_namespace_cannot_use_is_explained() {
    let problem = said(waiting(
        "CreateContainerError",
        "runc: failed to set MOUNT_ATTR_IDMAP on /data",
    ));
    assert_eq!(problem.reason, "ContainerCannotStart");
    assert!(problem.failed && problem.message.contains("securityProfile Restricted"));
}

#[test]
fn memory_and_exit_codes_are_told_from_the_last_end() {
    let crashing = |reason: &str, code| {
        let mut status = container(waiting("CrashLoopBackOff", "back-off"));
        status.last_state = Some(terminated(reason, code));
        pod(&in_state(made(&sandbox(|_| ())), status), at(101)).unwrap()
    };
    assert_eq!(crashing("OOMKilled", 137).reason, "OOMKilled");
    let exited = crashing("Error", 3);
    assert!(exited.failed && exited.message.contains("exit code 3"));
    assert!(!said(terminated("Error", 3)).failed);
    assert_eq!(said(terminated("OOMKilled", 137)).reason, "OOMKilled");
}

#[test]
fn an_init_container_that_has_done_its_work_is_no_problem() {
    let mut pod_of = in_state(
        made(&sandbox(|_| ())),
        container(waiting("PodInitializing", "")),
    );
    let mut init = container(terminated("Completed", 0));
    init.name = "agent".into();
    pod_of.status.as_mut().unwrap().init_container_statuses = Some(vec![init]);
    assert_eq!(pod(&pod_of, at(101)).unwrap().reason, "Starting");
}

#[test]
fn a_young_pod_is_only_starting_and_an_old_one_says_what_it_waits_for() {
    let mut waits = made(&sandbox(|_| ()));
    waits.status = Some(k8s_openapi::api::core::v1::PodStatus {
        conditions: Some(vec![condition("PodScheduled", "False", "0/1 nodes")]),
        ..Default::default()
    });
    assert_eq!(pod(&waits, at(119)).unwrap().reason, "Starting");
    let problem = pod(&waits, at(120)).unwrap();
    assert_eq!(
        (problem.reason, problem.message.as_str()),
        ("Unschedulable", "0/1 nodes")
    );

    let creating = in_state(
        made(&sandbox(|_| ())),
        container(waiting("ContainerCreating", "")),
    );
    assert_eq!(pod(&creating, at(219)).unwrap().reason, "Starting");
    let slow = pod(&creating, at(220)).unwrap();
    assert_eq!(slow.reason, "StartingSlowly");
    assert!(slow.message.contains("kubectl describe pod -n ns box"));
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let mut lost = in_state(made(&sandbox(|_| ())), container(running()));
    lost.status.as_mut().unwrap().conditions = Some(vec![condition("Ready", "False", "")]);
    let problem = pod(&lost, at(101)).unwrap();
    assert_eq!(problem.reason, "NodeNotReady");
    assert!(problem.message.contains("node-1"));
}

#[test]
fn an_ended_pod_says_why_it_ended() {
    let mut evicted = made(&sandbox(|_| ()));
    assert_eq!(ended(&evicted), None);
    evicted.status = Some(k8s_openapi::api::core::v1::PodStatus {
        phase: Some("Failed".into()),
        reason: Some("Evicted".into()),
        message: Some("low on memory".into()),
        ..Default::default()
    });
    assert_eq!(ended(&evicted).as_deref(), Some("Evicted: low on memory"));
}

#[test]
fn a_claim_that_goes_or_is_lost_is_a_problem() {
    let owner = sandbox(|_| ());
    assert_eq!(claim(&bound(&owner, "Bound")), None);
    assert_eq!(claim(&bound(&owner, "Lost")).unwrap().reason, "ClaimLost");
    let mut going = bound(&owner, "Bound");
    going.metadata.deletion_timestamp = Some(Time(at(1)));
    assert_eq!(claim(&going).unwrap().reason, "ClaimTerminating");
}
