//! Commands, files and searches reach the agent with the right paths and limits.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::fakes::{Fakes, pod_of};
use crate::{Base, ClientPath, EditError, Occurrences, SearchKind, ServiceError, Target};
use hutch_core::agent::AgentError;

fn at(path: &str) -> ClientPath<'_> {
    ClientPath {
        path,
        base: Base::Directory("/dir"),
    }
}

fn in_session(path: &str) -> ClientPath<'_> {
    ClientPath {
        path,
        base: Base::Session("s"),
    }
}

async fn edit(fakes: &Fakes, target: &Target, old: &str, new: &str) -> Result<(), EditError> {
    let work = &fakes.service.work;
    work.edit_file(target, at("f"), (old, new), Occurrences::First)
        .await
}

#[tokio::test(start_paused = true)]
async fn a_relative_path_starts_at_the_given_directory_and_an_absolute_one_does_not() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let work = &fakes.service.work;
    let content = Bytes::from_static(b"x");
    work.write_file(&target, at("f"), &content).await.unwrap();
    work.write_file(&target, at("/f"), &content).await.unwrap();
    assert_eq!(fakes.agents.file("/dir/f").as_deref(), Some("x"));
    assert_eq!(fakes.agents.file("/f").as_deref(), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn a_relative_path_starts_at_the_directory_of_its_session_or_at_the_workspace() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let work = &fakes.service.work;
    fakes.agents.put_file("/work/f", "of the workspace");
    fakes.agents.put_file("/src/f", "of the session");
    let content = work.read_file(&target, in_session("f")).await.unwrap();
    assert_eq!(content, "of the workspace");
    let (fakes, target) = Fakes::with_sandbox("a");
    let work = &fakes.service.work;
    fakes.agents.put_file("/src/f", "of the session");
    fakes.records.apply(&target.name, "s", Some("/src"));
    let content = work.read_file(&target, in_session("f")).await.unwrap();
    assert_eq!(content, "of the session");
}

#[tokio::test(start_paused = true)]
async fn a_file_over_the_limit_is_not_read() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.put_file("/f", &"x".repeat(1025));
    let error = fakes.service.work.read_file(&target, at("/f")).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ServiceError::Agent(AgentError::Full(_))));
}

#[tokio::test(start_paused = true)]
async fn both_paths_of_a_move_are_resolved() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.put_file("/dir/old", "x");
    let work = &fakes.service.work;
    work.rename(&target, at("old"), at("new")).await.unwrap();
    assert_eq!(fakes.agents.file("/dir/old"), None);
    assert_eq!(fakes.agents.file("/dir/new").as_deref(), Some("x"));
    assert!(work.path_exists(&target, at("new")).await.unwrap());
    work.delete_file(&target, at("new")).await.unwrap();
    assert!(!work.path_exists(&target, at("new")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_names_in_a_directory_are_sorted() {
    let (fakes, target) = Fakes::with_sandbox("a");
    for name in ["b", "a", "c"] {
        fakes.agents.put_file(&format!("/dir/{name}"), "");
    }
    let names = fakes.service.work.list_directory(&target, at("/dir")).await;
    assert_eq!(names.unwrap(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_edit_replaces_a_text() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.put_file("/dir/f", "one two");
    edit(&fakes, &target, "two", "three").await.unwrap();
    assert_eq!(fakes.agents.file("/dir/f").as_deref(), Some("one three"));
}

#[tokio::test(start_paused = true)]
async fn an_edit_without_its_text_changes_nothing() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.put_file("/dir/f", "one");
    let error = edit(&fakes, &target, "two", "three").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "old_string was not found in f: the file is unchanged"
    );
    let missing = edit(&fakes, &target, "two", "three").await;
    assert!(matches!(missing, Err(EditError::NotFound(_))));
    assert_eq!(fakes.agents.file("/dir/f").as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_nothing_writes_the_whole_file() {
    let (fakes, target) = Fakes::with_sandbox("a");
    edit(&fakes, &target, "", "new").await.unwrap();
    assert_eq!(fakes.agents.file("/dir/f").as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_too_large_is_not_edited() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.put_file("/dir/f", &"x".repeat(1025));
    let error = edit(&fakes, &target, "x", "y").await.unwrap_err();
    assert!(matches!(error, EditError::TooLarge(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn edits_at_the_same_time_do_not_overwrite_each_other() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.agents.put_file("/dir/f", "a b");
    fakes.agents.set_delay(Duration::from_millis(10));
    let begin = Instant::now();
    let (first, second) = tokio::join!(
        edit(&fakes, &target, "a", "A"),
        edit(&fakes, &target, "b", "B")
    );
    first.and(second).unwrap();
    assert_eq!(fakes.agents.file("/dir/f").as_deref(), Some("A B"));
    assert_eq!(begin.elapsed(), Duration::from_millis(40));
}

#[tokio::test(start_paused = true)]
async fn a_search_without_a_path_searches_the_working_directory() {
    let fakes = Fakes::new();
    fakes.sandboxes.start_controller(Duration::ZERO);
    let place = fakes.service.projects.conversation("c").await;
    let work = &fakes.service.work;
    let grep = work.search(&place, SearchKind::Lines, "x", None);
    grep.await.unwrap();
    let glob = work.search(&place, SearchKind::Names, "*.rs", Some("src"));
    glob.await.unwrap();
    let searches = fakes.agents.searches();
    assert_eq!(searches[0].0, "grep x");
    assert_eq!(searches[0].1.path, "/project");
    assert_eq!(searches[1].0, "glob *.rs");
    assert_eq!(searches[1].1.path, "src");
    assert_eq!(searches[1].1.base, "/project");
    assert_eq!(searches[0].2.output, 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_opens_no_session_needs_none() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let pod = pod_of(&fakes.sandboxes, &target.name);
    let request = hutch_core::exec::ExecRequest::script("true", 7);
    fakes
        .service
        .work
        .exec(&target, request.clone())
        .await
        .unwrap();
    assert_eq!(fakes.agents.execs(), [(pod, request)]);
    assert_eq!(fakes.agents.calls(), 1);
}
