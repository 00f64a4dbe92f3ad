//! A hundred projects at once, on a real cluster that does nothing else meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/mod.rs"]
mod support;

use serde_json::json;
use sqlx::Row;
use support::postgres::Postgres;
use support::world::eventually;
use support::{World, audit};

const PROJECTS: usize = 100;

async fn rows(postgres: &Postgres) -> Vec<(String, String)> {
    let named = "SELECT id, container_name FROM projects WHERE container_name IS NOT NULL";
    let rows = postgres.sql(named).await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_synced_with_one_write_when_a_hundred_projects_start_at_once() {
    let (world, postgres) = (World::new("many").await, Postgres::start().await);
    for i in 0..PROJECTS {
        postgres.project(&format!("P{i}")).await;
    }
    let flags = postgres.flags(postgres.port);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let _hutch = world.hutch("controller", &flags).await;
    let create = |i: usize| {
        let world = &world;
        async move {
            let spec = json!({
                "project": {"id": format!("P{i}")},
                "workspace": {"persistence": "Ephemeral", "size": "64Mi"},
            });
            let spec = serde_json::from_value(spec).unwrap();
            world.create(&format!("box-{i}"), spec).await;
        }
    };
    futures::future::join_all((0..PROJECTS).map(create)).await;
    let mut followed = 0;
    while followed < PROJECTS {
        followed = eventually("one more row follows", async || {
            let now = rows(&postgres).await.len();
            (now > followed).then_some(now)
        })
        .await;
    }
    for (project, container) in rows(&postgres).await {
        assert_eq!(container, project.replace('P', "box-"));
    }
    assert_eq!(postgres.writes().await.len(), PROJECTS);
    // A sandbox needs a few writes of its status until its row is synced, and none after.
    let writes = audit::writes(world.environment, &world.namespace);
    let statuses = writes
        .iter()
        .filter(|it| it.name == "box-0" && it.resource == "sandboxes/status");
    assert!(statuses.count() <= 5, "{writes:#?}");
}
