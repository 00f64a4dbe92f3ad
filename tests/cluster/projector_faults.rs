//! The projector during faults of the database: it catches up by itself, reports the fault,
//! and delays nothing else.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::projector::{SYNCED, controller, row, spec};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::world::{eventually, http};
use crate::support::{Hutch, World};
use sqlx::Row;

#[tokio::test(flavor = "multi_thread")]
async fn changes_during_an_outage_of_the_database_are_synced_later() {
    let (world, mut postgres) = (World::new("down").await, Postgres::stopped().await);
    let hutch = controller(&world, &postgres, postgres.port).await;
    world.create("box", spec("P")).await;
    world.create("other", spec("Q")).await;
    world.ready("box").await;
    world.ready("other").await;
    let reported = world.condition("box", SYNCED, "DatabaseAway").await;
    assert_eq!(reported.status, "False");
    assert!(
        hutch.log().contains("running standalone because"),
        "{}",
        hutch.log()
    );
    postgres.up(&[]).await;
    postgres.project("P").await;
    postgres.project("Q").await;
    row(&postgres, "P", Some("box")).await;
    row(&postgres, "Q", Some("other")).await;

    let ready = format!("{}/readyz", hutch.ops().await);
    let readiness = async || {
        let answer = http().get(&ready).send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert!(hutch.metric("hutch_database_connected").await > 0.5);
    let reported = readiness().await;
    assert!(
        reported.contains("database: connected since "),
        "{reported}"
    );

    // The database ends in the middle, and changes happen meanwhile.
    postgres.down("QUIT");
    eventually("that it is gone is measured", async || {
        (hutch.metric("hutch_database_connected").await < 0.5).then_some(())
    })
    .await;
    let reported = readiness().await;
    assert!(
        reported.starts_with("ok\n") && reported.contains("database: away since "),
        "{reported}"
    );
    world.suspend("box").await;
    world.gone::<Pod>("box").await;
    world.delete("other").await;
    postgres.up(&[]).await;
    row(&postgres, "P", None).await;
    row(&postgres, "Q", None).await;
    world.condition("box", SYNCED, "Synced").await;
    assert!((hutch.metric("hutch_leading").await - 1.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_delays_the_projector_and_nothing_else() {
    let (world, postgres) = (World::new("hole").await, Postgres::start().await);
    let proxy = Proxy::to(postgres.port).await;
    for project in ["A", "B"] {
        postgres.project(project).await;
    }
    let hutch = controller(&world, &postgres, proxy.port).await;
    let start = async |name: &str, project: &str| {
        let begin = Instant::now();
        world.create(name, spec(project)).await;
        world.ready(name).await;
        begin.elapsed()
    };
    let usual = start("a", "A").await;
    row(&postgres, "A", Some("a")).await;
    let (took, count) = reconciles(&hutch).await;
    proxy.swallow_all();
    let dark = start("b", "B").await;
    assert!(
        dark < usual * 3 + Duration::from_secs(2),
        "{dark:?}, usually {usual:?}"
    );
    world.condition("b", SYNCED, "DatabaseAway").await;
    let (after, more) = reconciles(&hutch).await;
    let mean = (after - took) / (more - count).max(1.0);
    assert!(mean < 0.5, "a reconcile takes {mean} s");
    assert_eq!(postgres.container("B").await, None);
    proxy.pass_all();
    row(&postgres, "B", Some("b")).await;
}

/// The seconds that were spent in reconciles, and their number.
async fn reconciles(hutch: &Hutch) -> (f64, f64) {
    let seconds = hutch.metric("hutch_reconcile_duration_seconds_sum").await;
    (
        seconds,
        hutch.metric("hutch_reconcile_duration_seconds_count").await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_server_is_left_for_the_new_one() {
    let (world, old, new) =
        tokio::join!(World::new("failover"), Postgres::start(), Postgres::start());
    for server in [&old, &new] {
        server.project("P").await;
    }
    let proxy = Proxy::to(old.port).await;
    let hutch = controller(&world, &old, proxy.port).await;
    world.create("box", spec("P")).await;
    row(&old, "P", Some("box")).await;
    // The connections stay open, and lead to the old server.
    let demote = "ALTER SYSTEM SET default_transaction_read_only = on";
    new.sql("UPDATE projects SET container_name = 'box'").await;
    old.sql(demote).await;
    old.sql("SELECT pg_reload_conf()").await;
    proxy.lead_to(new.port);
    world.suspend("box").await;
    world.gone::<Pod>("box").await;
    row(&new, "P", None).await;
    assert_eq!(old.container("P").await.as_deref(), Some("box"));
    assert!(
        !hutch.log().contains("running standalone"),
        "{}",
        hutch.log()
    );
}

/// The start of a fault, its end, and its reason.
const TROUBLES: [(&str, &str, &str); 4] = [
    (
        "ALTER TABLE projects RENAME container_name TO c",
        "ALTER TABLE projects RENAME c TO container_name",
        "SchemaMismatch",
    ),
    (
        "REVOKE UPDATE ON projects FROM crush",
        "GRANT UPDATE ON projects TO crush",
        "DatabaseForbidden",
    ),
    (
        "ALTER ROLE crush SET default_transaction_read_only = on",
        "ALTER ROLE crush RESET ALL",
        "DatabaseReadOnly",
    ),
    (
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$; \
             CREATE TRIGGER no BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION no()",
        "DROP TRIGGER no ON projects",
        "DatabaseRefused",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_the_database_refuses_is_reported_and_retried() {
    let (world, postgres) = (World::new("refused").await, Postgres::start().await);
    let hutch = controller(&world, &postgres, postgres.port).await;
    world.create("box", spec("P")).await;
    world.ready("box").await;
    world.condition("box", SYNCED, "ProjectNotFound").await;
    postgres.project("P").await;
    row(&postgres, "P", Some("box")).await;
    world.condition("box", SYNCED, "Synced").await;

    let hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crush'";
    let mut asleep = false;
    for (begin, end, reason) in TROUBLES {
        postgres.sql(begin).await;
        // New connections get the role's new setting.
        postgres.sql(hang_up).await;
        asleep = !asleep;
        if asleep {
            world.suspend("box").await;
        } else {
            world.resume("box").await;
        }
        let reported = world.condition("box", SYNCED, reason).await;
        assert_eq!(reported.status, "False");
        postgres.sql(end).await;
        world.condition("box", SYNCED, "Synced").await;
        let wanted = (!asleep).then_some("box");
        row(&postgres, "P", wanted).await;
    }
    let events = world.events().await;
    let reasons = TROUBLES.map(|(_, _, reason)| reason);
    for reason in reasons.into_iter().chain(["ProjectNotFound"]) {
        assert!(
            events.iter().any(|event| event.0 == reason),
            "{reason}: {events:?}"
        );
    }
    // The server answered all the time.
    let log = hutch.log();
    assert!(!log.contains("running standalone"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_stops_no_other_and_no_writer_loses_a_change() {
    let (world, postgres) = (World::new("locked").await, Postgres::start().await);
    for project in ["A", "B"] {
        postgres.project(project).await;
    }
    let _hutch = controller(&world, &postgres, postgres.port).await;
    let lock = "BEGIN; UPDATE projects SET container_name = 'by-hand' WHERE id = 'A'; \
                SELECT pg_sleep(12); COMMIT";
    tokio::join!(postgres.sql(lock), async {
        world.create("a", spec("A")).await;
        world.create("b", spec("B")).await;
        world.ready("b").await;
        row(&postgres, "B", Some("b")).await;
    });
    // The write of the other program came first, and Hutch saw it before it was replaced:
    // the name is that of no pod.
    row(&postgres, "A", Some("a")).await;
    let reported = postgres
        .sql("SELECT container_name FROM writes WHERE project = 'A' ORDER BY number")
        .await;
    let reported: Vec<Option<&str>> = reported.iter().map(|row| row.get(0)).collect();
    assert_eq!(reported, [Some("by-hand"), Some("a")]);
}
