//! Sessions in the agents and their resources.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use crate::fakes::{Fakes, pod_of};
use crate::{ServiceError, Target};
use hutch_api::Phase;
use hutch_core::agent::AgentError;
use hutch_core::conditions::{READY, condition};
use hutch_core::exec::ExecRequest;
use hutch_core::interfaces::{NewSession, ResourceError};

fn new(id: &str) -> NewSession {
    NewSession {
        id: id.to_owned(),
        ..NewSession::default()
    }
}

/// Runs a command in a session.
async fn exec_in(fakes: &Fakes, target: &Target, session: &str) {
    let mut request = ExecRequest::script("true", 1);
    request.session = Some(session.to_owned());
    fakes.service.work.exec(target, request).await.unwrap();
}

/// Lets the loop write what is due.
async fn settle() {
    sleep(Duration::from_millis(400)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_opened_once_and_listed() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let sessions = &fakes.service.sessions;
    sessions.open(&target, new("s")).await.unwrap();
    let again = sessions.open(&target, new("s")).await.unwrap_err();
    assert!(matches!(again, ServiceError::Agent(AgentError::Exists(_))));
    assert_eq!(sessions.ids(&target).await.unwrap(), ["s"]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_session_is_gone_and_cannot_be_closed_again() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let sessions = &fakes.service.sessions;
    sessions.open(&target, new("s")).await.unwrap();
    sessions.close(&target, "s").await.unwrap();
    assert!(sessions.ids(&target).await.unwrap().is_empty());
    let again = sessions.close(&target, "s").await.unwrap_err();
    assert!(matches!(
        again,
        ServiceError::Agent(AgentError::NotFound(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn variables_open_a_session_that_does_not_exist() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let sessions = &fakes.service.sessions;
    let set = |id| sessions.set_variables(&target, id, BTreeMap::new());
    assert!(set("s").await.unwrap());
    sessions.open(&target, new("t")).await.unwrap();
    assert!(!set("t").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_applied_session_is_opened_with_its_spec_before_its_first_use_in_each_pod() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.records.apply(&target.name, "s", Some("/src"));
    exec_in(&fakes, &target, "s").await;
    exec_in(&fakes, &target, "s").await;
    let opened = fakes.agents.opened();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].cwd.as_deref(), Some("/src"));
    fakes.sandboxes.edit(&target.name, |it| {
        it.status.get_or_insert_default().pod_uid = Some("new".to_owned());
    });
    exec_in(&fakes, &target, "s").await;
    assert_eq!(fakes.agents.opened().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_resource_is_not_opened_before_its_use() {
    let (fakes, target) = Fakes::with_sandbox("a");
    exec_in(&fakes, &target, "s").await;
    assert!(fakes.agents.opened().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_session_gets_a_resource_a_moment_later() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    exec_in(&fakes, &target, "s").await;
    assert!(fakes.records.writes().is_empty(), "no request waits for it");
    settle().await;
    assert_eq!(fakes.records.writes(), ["create s", "record s /work"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_lives_for_a_moment_leaves_no_resource() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    let sessions = &fakes.service.sessions;
    sessions.open(&target, new("s")).await.unwrap();
    sessions.close(&target, "s").await.unwrap();
    settle().await;
    assert!(fakes.records.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_uses_of_a_session_are_one_write_in_30_s() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    for _ in 0..290 {
        exec_in(&fakes, &target, "s").await;
        sleep(Duration::from_millis(100)).await;
    }
    let writes = fakes.records.writes();
    let records = writes.iter().filter(|it| it.starts_with("record"));
    assert_eq!(records.count(), 1, "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn the_resource_of_a_closed_session_is_deleted() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    let sessions = &fakes.service.sessions;
    sessions.open(&target, new("s")).await.unwrap();
    settle().await;
    assert_eq!(fakes.records.ids(), ["s"]);
    sessions.close(&target, "s").await.unwrap();
    settle().await;
    assert!(fakes.records.ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_a_user_applied_stays_unless_a_request_ends_the_session() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    let pod = pod_of(&fakes.sandboxes, &target.name);
    fakes.records.apply(&target.name, "s", None);
    exec_in(&fakes, &target, "s").await;
    fakes.agents.remove_session(&pod, "s");
    settle().await;
    assert_eq!(fakes.records.ids(), ["s"], "the controller opens it again");
    let _ = fakes.service.sessions.close(&target, "s").await;
    settle().await;
    assert!(fakes.records.ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_resource_of_an_earlier_session_is_replaced() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    fakes.records.apply(&target.name, "s", None);
    fakes.records.edit("s", |it| {
        let ready = condition(READY, Some(true), "Open", "", None, Timestamp::now());
        it.status.get_or_insert_default().conditions = vec![ready];
    });
    exec_in(&fakes, &target, "s").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        fakes.records.writes(),
        ["delete s", "create s", "record s /work"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_resource_was_deleted_gets_no_new_one() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    let pod = pod_of(&fakes.sandboxes, &target.name);
    fakes.agents.put_session(&pod, "s", Some("s/uid-s"));
    exec_in(&fakes, &target, "s").await;
    sleep(Duration::from_secs(10)).await;
    assert!(fakes.records.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_of_a_session_that_fails_is_made_again() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    let fault = ResourceError::Unavailable("no route".to_owned());
    fakes.records.fail(Some(fault));
    exec_in(&fakes, &target, "s").await;
    settle().await;
    assert!(fakes.records.ids().is_empty());
    fakes.records.fail(None);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(fakes.records.ids(), ["s"]);
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_sandbox_that_sleeps_are_written_after_it_wakes() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    exec_in(&fakes, &target, "s").await;
    let set = |phase| {
        let set = |it: &mut hutch_api::Sandbox| it.status.get_or_insert_default().phase = phase;
        fakes.sandboxes.edit(&target.name, set);
    };
    set(Phase::Suspended);
    sleep(Duration::from_secs(20)).await;
    assert!(fakes.records.writes().is_empty());
    set(Phase::Ready);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(fakes.records.ids(), ["s"]);
}
