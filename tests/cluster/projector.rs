//! The projector: `projects.container_name` names the running pod of a project's
//! sandbox, whatever happens to the sandbox and to Hutch.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use sqlx::Row;

use crate::support::postgres::Postgres;
use crate::support::steps::condition;
use crate::support::world::eventually;
use crate::support::{Hutch, World};
use hutch_api::SandboxSpec;
use hutch_core::names;

pub const SYNCED: &str = "DatabaseSynced";
/// The projector compares all rows every 5 s.
const LONGER_THAN_A_COMPARISON: Duration = Duration::from_secs(6);

/// A controller with the database behind `port`.
pub async fn controller(world: &World, postgres: &Postgres, port: u16) -> Hutch {
    with_flags(world, &postgres.flags(port)).await
}

async fn with_flags(world: &World, flags: &[String]) -> Hutch {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    world.hutch("controller", &flags).await
}

/// A small sandbox of that project.
pub fn spec(project: &str) -> SandboxSpec {
    let spec = json!({
        "project": {"id": project},
        "workspace": {"persistence": "Ephemeral", "size": "64Mi"},
    });
    serde_json::from_value(spec).unwrap()
}

/// Waits until the row has this name. The bench measures how long that takes.
pub async fn row(postgres: &Postgres, project: &str, name: Option<&str>) {
    eventually(&format!("{project} says {name:?}"), async || {
        (postgres.container(project).await.as_deref() == name).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_names_the_pod_while_it_runs_and_nothing_else_is_touched() {
    let (world, postgres) = (World::new("row").await, Postgres::start().await);
    postgres.project("P").await;
    postgres.sql("UPDATE projects SET db_password = 'x'").await;
    let hutch = controller(&world, &postgres, postgres.port).await;
    world.create("box", spec("P")).await;
    world.ready("box").await;
    row(&postgres, "P", Some("box")).await;
    let reported = world.condition("box", SYNCED, "Synced").await;
    assert_eq!(reported.status, "True");
    let updated = postgres.sql("SELECT updated_at FROM projects").await[0].get::<i64, _>(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    assert!((now - 60_000..=now).contains(&updated), "{updated}");

    world.suspend("box").await;
    world.gone::<Pod>("box").await;
    row(&postgres, "P", None).await;
    world.resume("box").await;
    world.ready("box").await;
    row(&postgres, "P", Some("box")).await;
    // Nothing is written while nothing changes. That is a claim about a time, and nothing
    // signals that a comparison found no difference.
    let quiet = postgres.writes().await.len();
    tokio::time::sleep(LONGER_THAN_A_COMPARISON).await;
    assert_eq!(postgres.writes().await.len(), quiet);

    world.delete("box").await;
    row(&postgres, "P", None).await;
    let named = [Some("box"), None, Some("box"), None];
    let writes = postgres.writes().await;
    assert_eq!(
        writes
            .iter()
            .map(|write| write.1.as_deref())
            .collect::<Vec<_>>(),
        named
    );
    let rest = postgres
        .sql("SELECT name, db_password, workspace_path FROM projects")
        .await;
    assert_eq!(rest[0].get::<&str, _>(1), "x");
    let log = hutch.log();
    let line = format!(
        "connected to crush@127.0.0.1:{}/crush, project look-up on",
        postgres.port
    );
    assert_eq!(log.matches(&line).count(), 1, "{log}");
    assert!(!log.contains("123456"), "{log}");
    assert!(hutch.metric("hutch_database_connected").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_program_set_stays_while_that_pod_lives() {
    let (world, postgres) = (World::new("set").await, Postgres::start().await);
    postgres.project("P").await;
    let _hutch = controller(&world, &postgres, postgres.port).await;
    // The pod exists and never runs, because no node matches.
    let other = json!({"metadata": {"name": "theirs"}, "spec": {
        "nodeSelector": {"no": "such"}, "containers": [{"name": "c", "image": "python:3.11-slim"}]}});
    let other: Pod = serde_json::from_value(other).unwrap();
    world
        .pods()
        .create(&PostParams::default(), &other)
        .await
        .unwrap();
    postgres
        .sql("UPDATE projects SET container_name = 'theirs'")
        .await;
    world.create("box", spec("P")).await;
    world.ready("box").await;
    let reported = world.condition("box", SYNCED, "SetByOthers").await;
    assert!(
        reported.status == "True" && reported.message.contains("theirs"),
        "{reported:?}"
    );
    assert!(postgres.writes().await.is_empty());
    world
        .pods()
        .delete("theirs", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    row(&postgres, "P", Some("box")).await;
    world.condition("box", SYNCED, "Synced").await;

    // A name of no live pod is replaced, although the sandbox does not change.
    postgres
        .sql("UPDATE projects SET container_name = '../pods/gone'")
        .await;
    row(&postgres, "P", Some("box")).await;
    postgres
        .sql("UPDATE projects SET container_name = ''")
        .await;
    row(&postgres, "P", Some("box")).await;
    world.suspend("box").await;
    row(&postgres, "P", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_changes_its_project_leaves_the_former_row() {
    let (world, postgres) = (World::new("moves").await, Postgres::start().await);
    postgres.project("P").await;
    postgres.project("Q").await;
    let _hutch = controller(&world, &postgres, postgres.port).await;
    world.create("box", spec("P")).await;
    row(&postgres, "P", Some("box")).await;
    world
        .patch("box", json!({"spec": {"project": {"id": "Q"}}}))
        .await;
    row(&postgres, "P", None).await;
    row(&postgres, "Q", Some("box")).await;
    world
        .sandbox("box", |it| {
            it.status.as_ref().unwrap().project_id.as_deref() == Some("Q")
        })
        .await;
    world.patch("box", json!({"spec": {"project": null}})).await;
    row(&postgres, "Q", None).await;
    world
        .sandbox("box", |it| {
            it.status.as_ref().unwrap().project_id.is_none() && condition(it, SYNCED).is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_without_a_leader_are_synced_later() {
    let (world, postgres) = (World::new("nobody").await, Postgres::start().await);
    for project in ["P", "Q", "R", "elsewhere"] {
        postgres.project(project).await;
    }
    postgres
        .sql("UPDATE projects SET container_name = 'docker-1' WHERE id = 'elsewhere'")
        .await;
    let hutch = controller(&world, &postgres, postgres.port).await;
    let pod = names::project("P");
    world.create(&pod, spec("P")).await;
    world.create("moved", spec("Q")).await;
    row(&postgres, "P", Some(&pod)).await;
    row(&postgres, "Q", Some("moved")).await;
    world.condition("moved", SYNCED, "Synced").await;
    hutch.kill();
    world.delete(&pod).await;
    world
        .patch("moved", json!({"spec": {"project": {"id": "R"}}}))
        .await;
    let _hutch = controller(&world, &postgres, postgres.port).await;
    row(&postgres, "P", None).await;
    row(&postgres, "Q", None).await;
    row(&postgres, "R", Some("moved")).await;
    assert_eq!(
        postgres.container("elsewhere").await.as_deref(),
        Some("docker-1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_replicas_writes_and_needs_rights_for_its_columns_only() {
    let (world, postgres) = (World::new("two").await, Postgres::start().await);
    postgres.project("P").await;
    let few = "REVOKE ALL ON projects FROM crush; \
        GRANT SELECT (id, container_name, workdir_path), \
              UPDATE (container_name, updated_at) ON projects TO crush";
    postgres.sql(few).await;
    let _both = (
        controller(&world, &postgres, postgres.port).await,
        controller(&world, &postgres, postgres.port).await,
    );
    world.create("box", spec("P")).await;
    row(&postgres, "P", Some("box")).await;
    world.condition("box", SYNCED, "Synced").await;
    assert_eq!(postgres.writes().await.len(), 1);
}
