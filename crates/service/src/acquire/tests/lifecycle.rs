//! The lifecycle of a sandbox: set by a client, and deleted.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fakes::{Fakes, READY_TIMEOUT};
use crate::{LifecycleChange, ServiceError, Target};
use hutch_api::annotations;

fn idle(timeout: &str) -> LifecycleChange {
    LifecycleChange {
        idle_timeout: Some(timeout.to_owned()),
        keep_alive: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_sandbox_is_created_with_its_lifecycle_in_one_write() {
    let fakes = Fakes::new();
    let made = fakes.service.acquirer.ensure("a", &idle("5m")).await;
    let name = made.unwrap().name;
    let lifecycle = fakes.sandboxes.stored(&name).unwrap().spec.lifecycle;
    assert_eq!(lifecycle.idle_timeout.as_deref(), Some("5m"));
    assert_eq!(fakes.sandboxes.writes(), [format!("create {name}")]);
}

#[tokio::test(start_paused = true)]
async fn a_change_keeps_the_parts_of_a_lifecycle_that_it_does_not_name() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.sandboxes.edit(&target.name, |it| {
        it.spec.lifecycle.ttl = Some("8h".to_owned());
        it.spec.lifecycle.keep_alive = true;
    });
    let acquirer = &fakes.service.acquirer;
    acquirer.ensure("a", &idle("5m")).await.unwrap();
    let lifecycle = fakes.sandboxes.stored(&target.name).unwrap().spec.lifecycle;
    assert_eq!(lifecycle.idle_timeout.as_deref(), Some("5m"));
    assert_eq!(lifecycle.ttl.as_deref(), Some("8h"));
    assert!(lifecycle.keep_alive);
    acquirer.ensure("a", &idle("5m")).await.unwrap();
    assert_eq!(
        fakes.sandboxes.writes().len(),
        1,
        "the second changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_being_deleted_is_created_anew_once_it_is_gone() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let old = fakes.sandboxes.stored(&target.name).unwrap().metadata.uid;
    fakes.sandboxes.edit(&target.name, |it| {
        it.metadata.deletion_timestamp = it.metadata.creation_timestamp.clone();
    });
    let finish = async {
        sleep(Duration::from_secs(4)).await;
        fakes.sandboxes.remove(&target.name);
    };
    let change = LifecycleChange::default();
    let ensure = fakes.service.acquirer.ensure("a", &change);
    let (made, ()) = tokio::join!(ensure, finish);
    made.unwrap();
    let new = fakes.sandboxes.stored(&target.name).unwrap().metadata.uid;
    assert_ne!(new, old);
}

#[tokio::test(start_paused = true)]
async fn every_spelling_of_an_id_finds_a_sandbox_that_was_made_for_all() {
    let fakes = Fakes::new();
    let acquirer = &fakes.service.acquirer;
    let change = LifecycleChange::default();
    let made = acquirer.ensure_any_case("Box-A", &change).await.unwrap();
    assert_eq!(acquirer.tenant("box-a").name, made.name);
    assert_eq!(acquirer.tenant("BOX-A").name, made.name);
    let own = acquirer.ensure("BOX-A", &change).await.unwrap();
    assert_eq!(
        acquirer.tenant("BOX-A").name,
        own.name,
        "its own has priority"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_one_spelling_is_not_found_by_another() {
    let fakes = Fakes::new();
    let acquirer = &fakes.service.acquirer;
    let change = LifecycleChange::default();
    let made = acquirer.ensure("box-a", &change).await.unwrap();
    assert_ne!(acquirer.tenant("BOX-A").name, made.name);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_waits_until_the_sandbox_is_gone() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.sandboxes.keep_deleted();
    let finish = async {
        sleep(Duration::from_secs(7)).await;
        fakes.sandboxes.remove(&target.name);
    };
    let begin = Instant::now();
    let (deleted, ()) = tokio::join!(fakes.service.acquirer.destroy(&target), finish);
    assert!(deleted.unwrap());
    assert_eq!(begin.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_does_not_end_fails_with_a_text_that_says_so() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.sandboxes.keep_deleted();
    let begin = Instant::now();
    let error = fakes.service.acquirer.destroy(&target).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the sandbox is not ready after 25s: it is being deleted"
    );
    assert_eq!(begin.elapsed(), READY_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_missing_sandbox_is_deleted_already() {
    let fakes = Fakes::new();
    let deleted = fakes.service.acquirer.destroy(&Target::tenant("a")).await;
    assert!(!deleted.unwrap());
    assert!(fakes.sandboxes.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_the_cache_does_not_show_yet_can_be_deleted() {
    let (fakes, target) = (Fakes::new(), Target::tenant("a"));
    fakes.sandboxes.hold_cache();
    fakes.sandboxes.put(&target.name);
    assert!(fakes.service.acquirer.destroy(&target).await.unwrap());
    assert!(fakes.sandboxes.stored(&target.name).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_another_id_is_not_deleted() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.sandboxes.edit(&target.name, |it| {
        let note = (annotations::SANDBOX_ID.to_owned(), "b".to_owned());
        it.metadata.annotations = Some([note].into());
    });
    let error = fakes.service.acquirer.destroy(&target).await.unwrap_err();
    assert!(matches!(error, ServiceError::NameTaken(_)), "{error}");
    assert!(fakes.sandboxes.stored(&target.name).is_some());
}
