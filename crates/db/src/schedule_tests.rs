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

fn projects(schedule: &mut Schedule) -> Vec<String> {
    let mut ids: Vec<_> = schedule
        .take(10)
        .into_iter()
        .map(|job| job.project)
        .collect();
    ids.sort();
    ids
}

#[tokio::test(start_paused = true)]
async fn a_project_is_due_when_its_sandbox_changes_and_not_otherwise() {
    let mut schedule = Schedule::default();
    schedule.update(vec![
        sandbox("a", Some("P"), Phase::Pending),
        sandbox("b", None, Phase::Ready),
    ]);
    assert_eq!(projects(&mut schedule), ["P"]);
    schedule.done("P", Next::AfterChange);
    schedule.update(vec![sandbox("a", Some("P"), Phase::Pending)]);
    assert!(projects(&mut schedule).is_empty());
    schedule.update(vec![sandbox("a", Some("P"), Phase::Ready)]);
    assert_eq!(projects(&mut schedule), ["P"]);
    // A change during a sync is not lost.
    schedule.update(vec![sandbox("a", Some("P"), Phase::Suspended)]);
    assert!(projects(&mut schedule).is_empty());
    schedule.done("P", Next::AfterChange);
    assert_eq!(projects(&mut schedule), ["P"]);
}

#[tokio::test(start_paused = true)]
async fn a_project_whose_sandbox_is_gone_is_synced_once_more() {
    let mut schedule = Schedule::default();
    schedule.update(vec![sandbox("a", Some("P"), Phase::Ready)]);
    assert_eq!(projects(&mut schedule), ["P"]);
    schedule.done("P", Next::AfterChange);
    schedule.update(Vec::new());
    let jobs = schedule.take(10);
    assert!(jobs[0].sandboxes.is_empty() && jobs[0].ours.contains("a"));
    schedule.done("P", Next::AfterChange);
    schedule.make_all_due();
    assert!(projects(&mut schedule).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_changed_its_project_makes_both_due() {
    let mut moved = sandbox("a", Some("Q"), Phase::Ready).as_ref().clone();
    moved.status.as_mut().unwrap().project_id = Some("P".to_owned());
    let mut schedule = Schedule::default();
    schedule.update(vec![Arc::new(moved)]);
    let jobs = schedule.take(10);
    assert_eq!(jobs.len(), 2);
    let former = jobs.iter().find(|job| job.project == "P").unwrap();
    assert!(former.sandboxes.is_empty() && former.ours.contains("a"));
}

#[tokio::test(start_paused = true)]
async fn a_former_pod_is_not_ours_after_the_row_was_synced() {
    let (a, b) = (
        sandbox("a", Some("P"), Phase::Ready),
        sandbox("b", Some("P"), Phase::Ready),
    );
    let mut schedule = Schedule::default();
    schedule.update(vec![a, b.clone()]);
    schedule.take(10);
    schedule.update(vec![b]);
    schedule.done("P", Next::AfterChange);
    assert!(schedule.take(10)[0].ours.contains("a"));
    schedule.done("P", Next::AfterChange);
    schedule.make_all_due();
    assert!(!schedule.take(10)[0].ours.contains("a"));
}

#[tokio::test(start_paused = true)]
async fn without_a_sandbox_only_the_derived_name_is_ours() {
    let mut schedule = Schedule::default();
    schedule.compare(&rows("P", "some-container"));
    assert!(projects(&mut schedule).is_empty());
    schedule.compare(&rows("P", &names::project("P")));
    assert_eq!(projects(&mut schedule), ["P"]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_does_not_fit_makes_only_its_project_due() {
    let mut schedule = Schedule::default();
    schedule.update(vec![
        sandbox("a", Some("P"), Phase::Ready),
        sandbox("b", Some("Q"), Phase::Suspended),
    ]);
    assert_eq!(projects(&mut schedule), ["P", "Q"]);
    // A project whose sync is in progress does not become due.
    schedule.compare(&rows("P", "theirs"));
    schedule.done("P", Next::AfterChange);
    schedule.done("Q", Next::AfterChange);
    schedule.compare(&rows("P", "a"));
    assert!(projects(&mut schedule).is_empty());
    schedule.compare(&rows("P", "theirs"));
    assert_eq!(projects(&mut schedule), ["P"]);
    schedule.done("P", Next::AfterChange);
    schedule.compare(&HashMap::new());
    assert_eq!(projects(&mut schedule), ["P"]);
    schedule.done("P", Next::Soon);
    // It is checked again soon anyway.
    schedule.compare(&rows("P", "theirs"));
    assert!(projects(&mut schedule).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_retried_within_five_seconds() {
    let mut schedule = Schedule::default();
    schedule.update(vec![sandbox("a", Some("P"), Phase::Ready)]);
    for _ in 0..20 {
        assert_eq!(projects(&mut schedule), ["P"]);
        schedule.done("P", Next::Retry);
        assert!(projects(&mut schedule).is_empty());
        tokio::time::advance(MAX_RETRY_WAIT).await;
    }
}
