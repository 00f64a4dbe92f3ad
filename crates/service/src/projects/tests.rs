//! The places of conversations and projects, with and without the database.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::Target;
use crate::fakes::{Fakes, seconds_since};
use hutch_api::annotations;
use hutch_core::interfaces::{DatabaseError, Integration, Project};

fn project(container: Option<&str>, workdir: Option<&str>) -> Project {
    Project {
        id: "7".to_owned(),
        container_name: container.map(str::to_owned),
        workdir_path: workdir.map(str::to_owned),
    }
}

/// The name of the sandbox that Hutch creates for the project.
fn own_name() -> String {
    Target::project(&project(None, None), "/project").name
}

/// The sandbox and the working directory of the conversation `c`.
async fn place(fakes: &Fakes) -> (String, String) {
    let place = fakes.service.projects.conversation("c").await;
    (place.target.name, place.workdir)
}

/// The sandbox of a conversation that has one of its own.
fn alone() -> (String, String) {
    (Target::conversation("c").name, "/project".to_owned())
}

fn named(name: &str, workdir: &str) -> (String, String) {
    (name.to_owned(), workdir.to_owned())
}

fn set_project(fakes: &Fakes, name: &str) {
    fakes.sandboxes.edit(name, |it| {
        let id = "7".to_owned();
        it.spec.project = Some(hutch_api::Project { id });
    });
}

#[tokio::test(start_paused = true)]
async fn a_conversation_without_a_project_has_a_sandbox_of_its_own() {
    assert_eq!(place(&Fakes::new()).await, alone());
}

#[tokio::test(start_paused = true)]
async fn a_conversation_of_a_project_works_in_the_projects_sandbox_at_its_directory() {
    let fakes = Fakes::new();
    fakes.database.put("c", project(None, Some("/app")));
    assert_eq!(place(&fakes).await, named(&own_name(), "/app"));
    let place = fakes.service.projects.conversation("c").await;
    assert_eq!(place.cwd(), None, "the workspace is mounted there");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_a_mount_is_not_used_for_a_new_sandbox() {
    let fakes = Fakes::new();
    fakes.database.put("c", project(None, Some("/")));
    assert_eq!(place(&fakes).await, named(&own_name(), "/project"));
}

#[tokio::test(start_paused = true)]
async fn a_project_works_in_the_sandbox_that_its_row_names() {
    let fakes = Fakes::new();
    fakes.sandboxes.put_ready("box");
    let row = project(Some("box"), Some("/etc"));
    fakes.database.put("c", row);
    assert_eq!(place(&fakes).await, named("box", "/etc"));
    let place = fakes.service.projects.conversation("c").await;
    assert_eq!(place.cwd().as_deref(), Some("/etc"));
}

#[tokio::test(start_paused = true)]
async fn a_project_works_in_the_attached_pod_that_its_row_names() {
    let fakes = Fakes::new();
    fakes.attached_pods.put_running("pod");
    fakes.database.put("c", project(Some("pod"), None));
    assert_eq!(place(&fakes).await, named("pod", "."));
}

#[tokio::test(start_paused = true)]
async fn a_project_whose_row_names_nothing_works_in_its_oldest_sandbox() {
    let fakes = Fakes::new();
    for name in ["z", "a"] {
        fakes.sandboxes.put_ready(name);
        set_project(&fakes, name);
    }
    fakes.database.put("c", project(Some("gone"), None));
    let begin = Instant::now();
    assert_eq!(place(&fakes).await.0, "z");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_a_row_that_the_cache_lacks_is_waited_for() {
    let fakes = Fakes::new();
    fakes.sandboxes.hold_cache();
    fakes.sandboxes.put_ready("box");
    fakes.database.put("c", project(Some("box"), None));
    let follow = async {
        sleep(Duration::from_secs(2)).await;
        fakes.sandboxes.release_cache();
    };
    let begin = Instant::now();
    let (place, ()) = tokio::join!(place(&fakes), follow);
    assert_eq!((place.0.as_str(), seconds_since(begin)), ("box", 2));
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_a_row_that_the_cache_never_shows_counts_as_gone_after_5_s() {
    let fakes = Fakes::new();
    fakes.attached_pods.put_in_cluster("pod");
    fakes.database.put("c", project(Some("pod"), None));
    let begin = Instant::now();
    assert_eq!(place(&fakes).await.0, own_name());
    assert_eq!(seconds_since(begin), 5);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_database_is_used_for_5_s() {
    let fakes = Fakes::new();
    fakes.database.put("c", project(None, None));
    place(&fakes).await;
    sleep(Duration::from_millis(4900)).await;
    place(&fakes).await;
    assert_eq!(fakes.database.lookups(), 1);
    sleep(Duration::from_millis(200)).await;
    place(&fakes).await;
    assert_eq!(fakes.database.lookups(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_used_at_once_while_the_database_is_away() {
    let fakes = Fakes::new();
    fakes.database.put("c", project(None, None));
    let before = place(&fakes).await;
    sleep(Duration::from_secs(60)).await;
    fakes
        .database
        .take_away(Integration::Away, Timestamp::now());
    let begin = Instant::now();
    assert_eq!(place(&fakes).await, before);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_new_conversation_waits_for_a_database_that_was_just_lost() {
    let fakes = Fakes::new();
    fakes.database.put("c", project(None, None));
    fakes
        .database
        .take_away(Integration::Away, Timestamp::now());
    let back = async {
        sleep(Duration::from_secs(3)).await;
        fakes.database.give_back();
    };
    let (place, ()) = tokio::join!(place(&fakes), back);
    assert_eq!(place.0, own_name());
}

#[tokio::test(start_paused = true)]
async fn a_new_conversation_waits_for_10_s_at_most() {
    let fakes = Fakes::new();
    fakes
        .database
        .take_away(Integration::Away, Timestamp::now());
    let begin = Instant::now();
    assert_eq!(place(&fakes).await, alone());
    assert_eq!(seconds_since(begin), 10);
}

#[tokio::test(start_paused = true)]
async fn a_new_conversation_does_not_wait_for_a_database_that_was_lost_long_ago_or_never_was() {
    let long_ago = Timestamp::now() - Duration::from_secs(60);
    for integration in [Integration::Away, Integration::NotConfigured] {
        let fakes = Fakes::new();
        fakes.database.take_away(integration, long_ago);
        let begin = Instant::now();
        assert_eq!(place(&fakes).await, alone());
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_conversation_does_not_wait_for_a_schema_to_be_repaired() {
    let fakes = Fakes::new();
    let error = DatabaseError::Schema("no table".to_owned());
    fakes.database.fail(error);
    let begin = Instant::now();
    assert_eq!(place(&fakes).await, alone());
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_project_has_no_place() {
    let fakes = Fakes::new();
    let place = fakes.service.projects.project("7").await;
    assert_eq!(place, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_project_is_found_by_the_spec_of_its_sandbox_while_the_database_is_away() {
    let fakes = Fakes::new();
    fakes
        .database
        .take_away(Integration::Away, Timestamp::now());
    let missing = fakes.service.projects.project("7").await;
    assert!(matches!(missing, Err(DatabaseError::Away(_))));
    fakes.sandboxes.put_ready("box");
    set_project(&fakes, "box");
    let found = fakes.service.projects.project("7").await;
    assert_eq!(found.unwrap().unwrap().target.name, "box");
}

#[tokio::test(start_paused = true)]
async fn conversations_are_listed_and_ended_and_projects_stay() {
    let fakes = Fakes::new();
    for id in ["d", "c"] {
        let name = Target::conversation(id).name;
        fakes.sandboxes.put_ready(&name);
        fakes.sandboxes.edit(&name, |it| {
            let note = (annotations::CONVERSATION.to_owned(), id.to_owned());
            it.metadata.annotations = Some([note].into());
        });
    }
    fakes.sandboxes.put_ready("project");
    let ending = Target::conversation("ending").name;
    fakes.sandboxes.put_ready(&ending);
    fakes.sandboxes.edit(&ending, |it| {
        let note = (annotations::CONVERSATION.to_owned(), "ending".to_owned());
        it.metadata.annotations = Some([note].into());
        it.metadata.deletion_timestamp = it.metadata.creation_timestamp.clone();
    });
    let projects = &fakes.service.projects;
    assert_eq!(projects.conversations(), ["c", "d"]);
    assert!(projects.end_conversation("c").await.unwrap());
    assert!(!projects.end_conversation("c").await.unwrap());
    assert_eq!(projects.end_conversations().await.unwrap(), 1);
    assert!(projects.conversations().is_empty());
    assert!(fakes.sandboxes.stored("project").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_named_sandbox_that_does_not_decode_stays_the_projects_place() {
    let fakes = Fakes::new();
    fakes
        .database
        .put("c", project(Some("named"), Some("/app")));
    fakes.sandboxes.put_unreadable("named");
    assert_eq!(place(&fakes).await, named("named", "/app"));
}
