//! Pods that somebody else created.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fakes::{Fakes, READY_TIMEOUT};
use crate::{ServiceError, Target};
use hutch_core::interfaces::{PodRef, Project};

async fn acquire(fakes: &Fakes) -> Result<PodRef, ServiceError> {
    let target = Target::attached_pod("pod", &Project::default());
    let deadline = Instant::now() + READY_TIMEOUT;
    fakes.service.acquirer.acquire(&target, deadline).await
}

#[tokio::test(start_paused = true)]
async fn a_running_attached_pod_is_used_at_once() {
    let fakes = Fakes::new();
    fakes.attached_pods.put_running("pod");
    assert!(acquire(&fakes).await.unwrap().attached);
}

#[tokio::test(start_paused = true)]
async fn an_attached_pod_is_waited_for_until_it_runs() {
    let fakes = Fakes::new();
    fakes.attached_pods.put_waiting("pod", "it starts");
    let start = async {
        sleep(Duration::from_secs(20)).await;
        fakes.attached_pods.put_running("pod");
    };
    let (pod, ()) = tokio::join!(acquire(&fakes), start);
    assert!(pod.is_ok(), "{pod:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_why_an_attached_pod_does_not_run() {
    let fakes = Fakes::new();
    fakes.attached_pods.put_waiting("pod", "CrashLoopBackOff");
    let text = acquire(&fakes).await.unwrap_err().to_string();
    assert_eq!(text, "the sandbox is not ready after 25s: CrashLoopBackOff");
}

#[tokio::test(start_paused = true)]
async fn an_attached_pod_that_is_missing_or_vanishes_is_gone_and_not_created() {
    let fakes = Fakes::new();
    let missing = acquire(&fakes).await;
    assert!(matches!(missing, Err(ServiceError::Gone(_))), "{missing:?}");
    fakes.attached_pods.put_waiting("pod", "it starts");
    let vanish = async {
        sleep(Duration::from_secs(1)).await;
        fakes.attached_pods.remove("pod");
    };
    let (vanished, ()) = tokio::join!(acquire(&fakes), vanish);
    assert!(matches!(vanished, Err(ServiceError::Gone(_))));
    assert!(fakes.sandboxes.writes().is_empty());
}
