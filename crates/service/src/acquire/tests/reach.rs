//! Calls of agents: which are made again, and where.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fakes::{Fakes, READY_TIMEOUT};
use crate::{ServiceError, Target};
use hutch_core::agent::AgentError;
use hutch_core::exec::{ExecOutcome, ExecRequest};
use hutch_core::interfaces::Project;

async fn exec(fakes: &Fakes, target: &Target) -> Result<ExecOutcome, ServiceError> {
    let request = ExecRequest::script("true", 1);
    fakes.service.work.exec(target, request).await
}

fn unreachable() -> AgentError {
    AgentError::Unreachable("the channel was lost".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_handed_over_is_made_again() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.fail_next(unreachable());
    fakes.agents.fail_next(unreachable());
    exec(&fakes, &target).await.unwrap();
    assert_eq!((fakes.agents.calls(), fakes.agents.execs().len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_outcome_is_lost_is_never_made_again() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let lost = AgentError::Lost("the pod is gone".to_owned());
    fakes.agents.fail_next(lost.clone());
    let error = exec(&fakes, &target).await.unwrap_err();
    assert!(matches!(error, ServiceError::Agent(error) if error == lost));
    assert_eq!(fakes.agents.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_stays_unreachable_fails_the_request_at_its_deadline() {
    let (fakes, target) = Fakes::with_sandbox("a");
    for _ in 0..1000 {
        fakes.agents.fail_next(unreachable());
    }
    let begin = Instant::now();
    let error = exec(&fakes, &target).await.unwrap_err();
    assert!(matches!(error, ServiceError::Agent(error) if error == unreachable()));
    assert_eq!(begin.elapsed(), READY_TIMEOUT);
    // One call every 250 ms.
    assert_eq!(fakes.agents.calls(), 101);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_in_the_next_pod_as_soon_as_the_cache_shows_it() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.fail_next(unreachable());
    let replace = async {
        sleep(Duration::from_millis(100)).await;
        fakes.sandboxes.edit(&target.name, |it| {
            it.status.get_or_insert_default().pod_uid = Some("new".to_owned());
        });
    };
    let begin = Instant::now();
    let call = async {
        exec(&fakes, &target).await.unwrap();
        begin.elapsed()
    };
    let (took, ()) = tokio::join!(call, replace);
    assert_eq!(took, Duration::from_millis(100));
    assert_eq!(fakes.agents.execs()[0].0.uid, "new");
}

#[tokio::test(start_paused = true)]
async fn a_project_whose_named_sandbox_is_gone_is_reached_in_its_next_one() {
    let fakes = Fakes::new();
    let project = Project {
        id: "7".to_owned(),
        container_name: Some("gone".to_owned()),
        workdir_path: None,
    };
    fakes.sandboxes.start_controller(Duration::ZERO);
    let target = Target::named("gone", Some(&project));
    exec(&fakes, &target).await.unwrap();
    let own = Target::project(&project, "/project").name;
    assert_eq!(fakes.agents.execs()[0].0.name, own);
}

#[tokio::test(start_paused = true)]
async fn requests_wait_until_all_caches_have_been_filled() {
    let fakes = Fakes::new();
    fakes.attached_pods.set_unfilled();
    let fill = async {
        sleep(Duration::from_secs(3)).await;
        fakes.attached_pods.put_running("pod");
    };
    let begin = Instant::now();
    let (listed, ()) = tokio::join!(fakes.service.listed(), fill);
    listed.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_not_filled_in_time_fails_the_request() {
    let fakes = Fakes::new();
    fakes.attached_pods.set_unfilled();
    let text = fakes.service.listed().await.unwrap_err().to_string();
    assert!(text.ends_with("after 25s: try again"), "{text}");
}
