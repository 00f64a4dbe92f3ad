use super::*;
use hutch_api::{Phase, Project, SandboxSpec, SandboxStatus};

fn sandbox(name: &str, project: Option<&str>, phase: Phase) -> Arc<Sandbox> {
    let project = project.map(|id| Project { id: id.to_owned() });
    let mut sandbox = Sandbox::new(
        name,
        SandboxSpec {
            project,
            ..SandboxSpec::default()
        },
    );
    sandbox.metadata.uid = Some(format!("uid-of-{name}"));
    sandbox.status = Some(SandboxStatus {
        phase,
        pod_name: Some(name.to_owned()),
        ..SandboxStatus::default()
    });
    Arc::new(sandbox)
}

fn rows(project: &str, pod: &str) -> HashMap<String, String> {
    [(project.to_owned(), pod.to_owned())].into()
}

fn projects(due: &mut Due) -> Vec<String> {
    let mut ids: Vec<_> = due.take(10).into_iter().map(|job| job.project).collect();
    ids.sort();
    ids
}

#[tokio::test(start_paused = true)]
async fn a_project_is_due_when_its_sandbox_changes_and_not_otherwise() {
    let mut due = Due::default();
    due.update(vec![
        sandbox("a", Some("P"), Phase::Pending),
        sandbox("b", None, Phase::Ready),
    ]);
    assert_eq!(projects(&mut due), ["P"]);
    due.done("P", Next::Rest);
    due.update(vec![sandbox("a", Some("P"), Phase::Pending)]);
    assert!(projects(&mut due).is_empty());
    due.update(vec![sandbox("a", Some("P"), Phase::Ready)]);
    assert_eq!(projects(&mut due), ["P"]);
    // A change while it is being looked at is not lost.
    due.update(vec![sandbox("a", Some("P"), Phase::Suspended)]);
    assert!(projects(&mut due).is_empty());
    due.done("P", Next::Rest);
    assert_eq!(projects(&mut due), ["P"]);
}

#[tokio::test(start_paused = true)]
async fn a_project_whose_sandbox_is_gone_is_looked_at_once_more() {
    let mut due = Due::default();
    due.update(vec![sandbox("a", Some("P"), Phase::Ready)]);
    assert_eq!(projects(&mut due), ["P"]);
    due.done("P", Next::Rest);
    due.update(Vec::new());
    let jobs = due.take(10);
    assert!(jobs[0].sandboxes.is_empty() && jobs[0].ours.contains("a"));
    due.done("P", Next::Rest);
    due.all();
    assert!(projects(&mut due).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_changed_its_project_makes_both_due() {
    let mut moved = sandbox("a", Some("Q"), Phase::Ready).as_ref().clone();
    moved.status.as_mut().unwrap().project_id = Some("P".to_owned());
    let mut due = Due::default();
    due.update(vec![Arc::new(moved)]);
    let jobs = due.take(10);
    assert_eq!(jobs.len(), 2);
    let former = jobs.iter().find(|job| job.project == "P").unwrap();
    assert!(former.sandboxes.is_empty() && former.ours.contains("a"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_left_is_not_ours_once_the_row_was_settled() {
    let (a, b) = (
        sandbox("a", Some("P"), Phase::Ready),
        sandbox("b", Some("P"), Phase::Ready),
    );
    let mut due = Due::default();
    due.update(vec![a, b.clone()]);
    due.take(10);
    due.update(vec![b]);
    due.done("P", Next::Rest);
    assert!(due.take(10)[0].ours.contains("a"));
    due.done("P", Next::Rest);
    due.all();
    assert!(!due.take(10)[0].ours.contains("a"));
}

#[tokio::test(start_paused = true)]
async fn only_names_that_come_from_the_project_are_ours_without_a_sandbox() {
    let mut due = Due::default();
    due.compare(&rows("P", "some-container"));
    assert!(projects(&mut due).is_empty());
    due.compare(&rows("P", &names::project("P")));
    assert_eq!(projects(&mut due), ["P"]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_says_something_else_makes_its_project_due_and_no_other() {
    let mut due = Due::default();
    due.update(vec![
        sandbox("a", Some("P"), Phase::Ready),
        sandbox("b", Some("Q"), Phase::Suspended),
    ]);
    assert_eq!(projects(&mut due), ["P", "Q"]);
    // What is being looked at is not due once more.
    due.compare(&rows("P", "theirs"));
    due.done("P", Next::Rest);
    due.done("Q", Next::Rest);
    due.compare(&rows("P", "a"));
    assert!(projects(&mut due).is_empty());
    due.compare(&rows("P", "theirs"));
    assert_eq!(projects(&mut due), ["P"]);
    due.done("P", Next::Rest);
    due.compare(&HashMap::new());
    assert_eq!(projects(&mut due), ["P"]);
    due.done("P", Next::Watch);
    // It is looked at again anyway.
    due.compare(&rows("P", "theirs"));
    assert!(projects(&mut due).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_within_five_seconds() {
    let mut due = Due::default();
    due.update(vec![sandbox("a", Some("P"), Phase::Ready)]);
    for _ in 0..20 {
        assert_eq!(projects(&mut due), ["P"]);
        due.done("P", Next::Retry);
        assert!(projects(&mut due).is_empty());
        tokio::time::advance(RETRY.1).await;
    }
}
