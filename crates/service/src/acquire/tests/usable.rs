//! A sandbox becomes usable: creating, waking, waiting, giving up.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::fakes::{Fakes, READY_TIMEOUT, pod_of, seconds_since, settings};
use crate::{ServiceError, Target};
use hutch_api::{Phase, annotations};
use hutch_core::interfaces::{PodRef, ResourceError};

async fn acquire(fakes: &Fakes, target: &Target) -> Result<PodRef, ServiceError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    fakes.service.acquirer.acquire(target, deadline).await
}

/// The text of the error with which the request fails.
async fn failure(fakes: &Fakes, target: &Target) -> String {
    acquire(fakes, target).await.unwrap_err().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_answers_is_used_at_once_and_nothing_is_written() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let begin = Instant::now();
    let pod = acquire(&fakes, &target).await.unwrap();
    assert_eq!(pod, pod_of(&fakes.sandboxes, &target.name));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(fakes.sandboxes.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_asleep_is_woken_once_by_a_later_activity() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    let slept = Timestamp::now();
    fakes.sandboxes.put_asleep(&target.name, slept);
    fakes.sandboxes.start_controller(Duration::from_secs(3));
    let pod = acquire(&fakes, &target).await.unwrap();
    assert_eq!(pod.name, target.name);
    let activity = fakes.sandboxes.activity();
    assert_eq!(activity.len(), 1);
    assert!(activity[0].1 > slept);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_the_one_of_the_sleep_still_wakes_the_sandbox() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    let slept = Timestamp::now() + Duration::from_secs(3600);
    fakes.sandboxes.put_asleep(&target.name, slept);
    fakes.sandboxes.start_controller(Duration::ZERO);
    acquire(&fakes, &target).await.unwrap();
    assert!(fakes.sandboxes.activity()[0].1 > slept);
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_the_cache_does_not_show_yet_is_not_repeated() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    fakes.sandboxes.put_asleep(&target.name, Timestamp::now());
    fakes.sandboxes.hold_cache();
    let cluster = async {
        for _ in 0..5 {
            sleep(Duration::from_secs(1)).await;
            fakes.sandboxes.report_other_change();
        }
        fakes.sandboxes.release_cache();
        fakes.sandboxes.start_controller(Duration::ZERO);
    };
    let (pod, ()) = tokio::join!(acquire(&fakes, &target), cluster);
    pod.unwrap();
    assert_eq!(fakes.sandboxes.activity().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_the_api_server_refuses_fails_the_request() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    fakes.sandboxes.put_asleep(&target.name, Timestamp::now());
    let fault = ResourceError::Unavailable("no route".to_owned());
    fakes.sandboxes.fail(fault);
    let text = failure(&fakes, &target).await;
    assert_eq!(text, "the cluster cannot be reached: no route");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_sandbox_is_refused_after_a_second_and_not_woken() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes
        .sandboxes
        .edit(&target.name, |it| it.spec.suspended = true);
    let begin = Instant::now();
    let error = acquire(&fakes, &target).await.unwrap_err();
    assert!(matches!(error, ServiceError::Suspended), "{error}");
    assert_eq!(seconds_since(begin), 1);
    assert!(fakes.sandboxes.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_repaired_within_a_second_is_used() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes
        .sandboxes
        .edit(&target.name, |it| it.spec.suspended = true);
    let repair = async {
        sleep(Duration::from_millis(900)).await;
        let resume = |it: &mut hutch_api::Sandbox| it.spec.suspended = false;
        fakes.sandboxes.edit(&target.name, resume);
    };
    let (pod, ()) = tokio::join!(acquire(&fakes, &target), repair);
    assert!(pod.is_ok(), "{pod:?}");
}

#[tokio::test(start_paused = true)]
async fn the_second_of_grace_begins_again_after_a_repair() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let name = target.name.as_str();
    let suspend = |is: bool| fakes.sandboxes.edit(name, |it| it.spec.suspended = is);
    fakes
        .sandboxes
        .set_not_ready(name, Phase::Pending, "Starting", "");
    suspend(true);
    let user = async {
        sleep(Duration::from_millis(500)).await;
        suspend(false);
        sleep(Duration::from_millis(5000)).await;
        suspend(true);
        sleep(Duration::from_millis(500)).await;
        suspend(false);
        fakes.sandboxes.start_controller(Duration::ZERO);
    };
    let (pod, ()) = tokio::join!(acquire(&fakes, &target), user);
    assert!(pod.is_ok(), "{pod:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_sandbox_is_created_once_although_many_ask_at_once() {
    let mut settings = settings();
    settings.acquire.max_sandboxes = 1;
    let (fakes, target) = (Fakes::with(settings), Target::tenant("a"));
    fakes.sandboxes.start_controller(Duration::from_secs(2));
    let all = join_all((0..50).map(|_| acquire(&fakes, &target))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(
        fakes.sandboxes.writes(),
        [format!("create {}", target.name)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_created_sandbox_that_the_cache_lacks_is_not_created_again() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    fakes.sandboxes.hold_cache();
    let follow = async {
        sleep(Duration::from_secs(5)).await;
        fakes.sandboxes.release_cache();
        fakes.sandboxes.start_controller(Duration::ZERO);
    };
    let first = acquire(&fakes, &target);
    let second = acquire(&fakes, &target);
    let (first, second, ()) = tokio::join!(first, second, follow);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(fakes.sandboxes.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_sandbox_has_the_id_that_it_belongs_to() {
    let (fakes, target) = (Fakes::new(), Target::tenant("Id"));
    fakes.sandboxes.start_controller(Duration::ZERO);
    acquire(&fakes, &target).await.unwrap();
    let made = fakes.sandboxes.stored(&target.name).unwrap();
    let notes = made.metadata.annotations.unwrap();
    assert_eq!(notes[annotations::SANDBOX_ID], "Id");
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_is_refused_fails_at_once_and_does_not_count_as_a_sandbox() {
    let mut settings = settings();
    settings.acquire.max_sandboxes = 1;
    let fakes = Fakes::with(settings);
    let fault = ResourceError::Forbidden("no".to_owned());
    fakes.sandboxes.fail(fault);
    let begin = Instant::now();
    let text = failure(&fakes, &Target::tenant("a")).await;
    assert_eq!(text, "the cluster does not allow it: no");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    fakes.sandboxes.repair();
    fakes.sandboxes.start_controller(Duration::ZERO);
    assert!(acquire(&fakes, &Target::tenant("b")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_depend_on_a_creation_of_another_that_fails() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    fakes.sandboxes.set_creation_delay(Duration::from_secs(1));
    fakes
        .sandboxes
        .fail(ResourceError::Forbidden("no".to_owned()));
    let second = async {
        sleep(Duration::from_millis(100)).await;
        fakes.sandboxes.repair();
        fakes.sandboxes.start_controller(Duration::ZERO);
        acquire(&fakes, &target).await
    };
    let (first, second) = tokio::join!(acquire(&fakes, &target), second);
    assert!(first.is_err());
    second.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_limit_counts_sandboxes_that_the_cache_does_not_show_yet() {
    let mut settings = settings();
    settings.acquire.max_sandboxes = 2;
    let fakes = Fakes::with(settings);
    fakes.sandboxes.put_ready("other");
    fakes.sandboxes.hold_cache();
    let first = Target::tenant("a");
    let refused = async {
        sleep(Duration::from_secs(1)).await;
        acquire(&fakes, &Target::tenant("b")).await
    };
    let (_, refused) = tokio::join!(acquire(&fakes, &first), refused);
    assert!(
        matches!(refused, Err(ServiceError::Limit(2))),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_sandbox_fails_the_request_with_its_reason() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let name = &target.name;
    fakes
        .sandboxes
        .set_not_ready(name, Phase::Failed, "ImagePull", "no such image");
    let begin = Instant::now();
    let text = failure(&fakes, &target).await;
    assert_eq!(text, "the sandbox cannot run: ImagePull: no such image");
    assert_eq!(seconds_since(begin), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_an_older_spec_is_waited_out() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let name = &target.name;
    fakes
        .sandboxes
        .set_not_ready(name, Phase::Failed, "ImagePull", "");
    fakes
        .sandboxes
        .edit(name, |it| it.metadata.generation = Some(2));
    fakes.sandboxes.start_controller(Duration::from_secs(10));
    assert!(acquire(&fakes, &target).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_deleted_meanwhile_is_created_again() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    fakes.sandboxes.put(&target.name);
    let delete = async {
        sleep(Duration::from_secs(1)).await;
        fakes.sandboxes.remove(&target.name);
        fakes.sandboxes.start_controller(Duration::from_secs(1));
    };
    let (pod, ()) = tokio::join!(acquire(&fakes, &target), delete);
    assert!(pod.is_ok(), "{pod:?}");
    assert_eq!(
        fakes.sandboxes.writes(),
        [format!("create {}", target.name)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_known_by_its_name_alone_is_never_created() {
    let fakes = Fakes::new();
    let text = failure(&fakes, &Target::named("x", None)).await;
    assert_eq!(text, "the sandbox x is gone");
    assert!(fakes.sandboxes.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_belongs_to_another_id_is_refused() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.sandboxes.edit(&target.name, |it| {
        let note = (annotations::SANDBOX_ID.to_owned(), "b".to_owned());
        it.metadata.annotations = Some([note].into());
    });
    let error = acquire(&fakes, &target).await.unwrap_err();
    assert!(matches!(error, ServiceError::NameTaken(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_why_the_sandbox_is_not_ready() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let name = &target.name;
    fakes
        .sandboxes
        .set_not_ready(name, Phase::Pending, "Unschedulable", "no node fits");
    let begin = Instant::now();
    let text = failure(&fakes, &target).await;
    assert_eq!(
        text,
        "the sandbox is not ready after 25s: Unschedulable: no node fits"
    );
    assert_eq!(begin.elapsed(), READY_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_that_no_controller_runs() {
    let fakes = Fakes::new();
    let text = failure(&fakes, &Target::tenant("a")).await;
    assert_eq!(
        text,
        "the sandbox is not ready after 25s: no controller has seen it yet"
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_that_the_sandbox_is_being_deleted() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.sandboxes.edit(&target.name, |it| {
        it.metadata.deletion_timestamp = it.metadata.creation_timestamp.clone();
    });
    let text = failure(&fakes, &target).await;
    assert_eq!(
        text,
        "the sandbox is not ready after 25s: it is being deleted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_does_not_decode_is_refused_and_not_created_again() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    fakes.sandboxes.put_unreadable(&target.name);
    let text = failure(&fakes, &target).await;
    assert!(text.contains("does not decode"), "{text}");
    assert!(fakes.sandboxes.writes().is_empty());
}
