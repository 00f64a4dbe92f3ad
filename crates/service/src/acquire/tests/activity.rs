//! The record of a sandbox's use.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::sleep;

use crate::fakes::Fakes;
use hutch_api::Phase;
use hutch_core::exec::ExecRequest;
use hutch_core::interfaces::ResourceError;

/// A sandbox in use every 100 ms for that long.
async fn use_for(fakes: &Fakes, name: &str, time: Duration) {
    for _ in 0..time.as_millis() / 100 {
        let used = fakes.service.acquirer.activity.begin(name);
        sleep(Duration::from_millis(100)).await;
        drop(used);
    }
}

fn set_idle_timeout(fakes: &Fakes, name: &str, timeout: &str) {
    fakes.sandboxes.edit(name, |it| {
        it.spec.lifecycle.idle_timeout = Some(timeout.to_owned());
    });
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_used_all_the_time_is_written_every_30_s() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    use_for(&fakes, &target.name, Duration::from_secs(100)).await;
    assert_eq!(fakes.sandboxes.activity().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_use_is_written_after_it_has_ended_and_only_once() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    let request = ExecRequest::script("true", 1);
    fakes.service.work.exec(&target, request).await.unwrap();
    sleep(Duration::from_secs(200)).await;
    assert_eq!(fakes.sandboxes.activity().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_would_fall_asleep_soon_is_written_at_once() {
    let (fakes, target) = Fakes::with_sandbox("a");
    set_idle_timeout(&fakes, &target.name, "10m");
    let long_ago = Timestamp::now() - Duration::from_secs(590);
    fakes.sandboxes.edit(&target.name, |it| {
        it.status.get_or_insert_default().started_at = Some(Time(long_ago));
    });
    fakes.start_recorders();
    let _used = fakes.service.acquirer.activity.begin(&target.name);
    sleep(Duration::from_millis(300)).await;
    let activity = fakes.sandboxes.activity();
    assert_eq!(activity.len(), 1);
    assert!(activity[0].1 > long_ago);
}

#[tokio::test(start_paused = true)]
async fn processes_in_the_background_keep_a_sandbox_with_an_idle_timeout_in_use() {
    let (fakes, target) = Fakes::with_sandbox("a");
    set_idle_timeout(&fakes, &target.name, "90s");
    fakes.agents.set_activity(0, 1);
    fakes.start_recorders();
    drop(fakes.service.acquirer.activity.begin(&target.name));
    sleep(Duration::from_secs(100)).await;
    let busy = fakes.sandboxes.activity().len();
    assert!(busy >= 3, "{busy}");
    fakes.agents.set_activity(0, 0);
    sleep(Duration::from_secs(100)).await;
    let last = fakes.sandboxes.activity().len();
    sleep(Duration::from_secs(200)).await;
    assert_eq!(fakes.sandboxes.activity().len(), last);
}

#[tokio::test(start_paused = true)]
async fn processes_in_the_background_do_not_matter_without_an_idle_timeout() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.set_activity(0, 1);
    fakes.start_recorders();
    drop(fakes.service.acquirer.activity.begin(&target.name));
    sleep(Duration::from_secs(200)).await;
    assert_eq!(fakes.sandboxes.activity().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_made_again() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let fault = ResourceError::Unavailable("no route".to_owned());
    fakes.sandboxes.fail(fault);
    fakes.start_recorders();
    drop(fakes.service.acquirer.activity.begin(&target.name));
    sleep(Duration::from_secs(40)).await;
    let last = |fakes: &Fakes| {
        let stored = fakes.sandboxes.stored(&target.name).unwrap();
        stored.status.unwrap().last_activity
    };
    assert!(last(&fakes).is_none());
    fakes.sandboxes.repair();
    sleep(Duration::from_secs(1)).await;
    assert!(last(&fakes).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_gone_is_not_written() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.start_recorders();
    drop(fakes.service.acquirer.activity.begin(&target.name));
    fakes.sandboxes.remove(&target.name);
    sleep(Duration::from_secs(60)).await;
    assert!(fakes.sandboxes.activity().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_starts_keeps_the_trace_that_woke_it() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.sandboxes.edit(&target.name, |it| {
        let status = it.status.get_or_insert_default();
        status.phase = Phase::Pending;
        status.traceparent = Some("00-trace".to_owned());
    });
    fakes.start_recorders();
    let _used = fakes.service.acquirer.activity.begin(&target.name);
    sleep(Duration::from_secs(31)).await;
    let activity = fakes.sandboxes.activity();
    assert_eq!(activity[0].2.as_deref(), Some("00-trace"));
}
