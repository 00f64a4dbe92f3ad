//! Outages of the database: every request that does not need it succeeds, and projects are
//! back when the database is.

use std::time::Duration;

use tokio::time::Instant;

use crate::project_resolution::{conversation, integrated, named, of_project, until};
use crate::support::World;
use crate::support::backend::Backend;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::world::eventually;

/// Longer than any looked-up value is used without a new look-up.
const LONGER_THAN_THE_CACHE: Duration = Duration::from_secs(7);
/// The longest delay of a request by a database that does not answer. The request's own
/// time comes on top.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Checks for a while that the same sandbox serves the conversation. Returns the longest
/// time of one request.
async fn served(backend: &Backend, host: &str) -> Duration {
    let (begin, mut longest) = (Instant::now(), Duration::ZERO);
    while begin.elapsed() < LONGER_THAN_THE_CACHE {
        let asked = Instant::now();
        assert_eq!(backend.stdout("hostname").await.trim_end(), host);
        longest = longest.max(asked.elapsed());
    }
    longest
}

/// Waits until the conversation works in the project's sandbox.
async fn joins(backend: &Backend, host: &str) {
    eventually("it works in the project's sandbox", async || {
        (backend.stdout("hostname").await.trim_end() == host).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_without_its_database_connects_later() {
    let (world, mut postgres) = (World::new("late").await, Postgres::stopped().await);
    let (hutch, backend) = integrated(&world, &postgres, postgres.port, "s-P").await;
    let alone = backend.stdout("hostname").await;
    until(&backend, "standalone").await;
    let health = backend.get("/health", &[]).await.ok();
    assert_eq!(health["active_sessions"], 1);
    for reported in ["since", "last_error"] {
        let text = health["database"][reported].as_str();
        assert!(text.is_some_and(|text| !text.is_empty()), "{health:#}");
    }
    assert_eq!(of_project(&world, "P").await.len(), 0);
    let url = backend.address("");

    postgres.up(&[]).await;
    postgres.project("P").await;
    until(&backend, "connected").await;
    let host = eventually("the conversation works in its project", async || {
        let host = backend.stdout("hostname").await;
        (host != alone).then_some(host)
    })
    .await;
    assert_eq!(of_project(&world, "P").await.len(), 1);
    let pod = named(&world, &postgres, "P", |_| true).await;
    assert_eq!(pod.metadata.name.as_deref(), Some(host.trim_end()));
    assert_eq!(hutch.url().await, url, "the same process");
    let log = hutch.log();
    for line in ["running standalone because", "project look-up on"] {
        assert_eq!(log.matches(line).count(), 1, "{line}:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_ends_no_conversation() {
    let (world, mut postgres) = (World::new("killed").await, Postgres::start().await);
    postgres.project("P").await;
    let (_hutch, backend) = integrated(&world, &postgres, postgres.port, "s-P").await;
    until(&backend, "connected").await;
    backend.stdout("true").await;
    let host = named(&world, &postgres, "P", |_| true).await;
    let host = host.metadata.name.unwrap();

    conversation(&postgres, "later", Some("P")).await;
    postgres.down("QUIT");
    served(&backend, &host).await;
    until(&backend, "standalone").await;
    let own = backend.about("unknown").stdout("hostname").await;
    assert_ne!(
        own.trim_end(),
        host,
        "who is not known has a sandbox of his own"
    );
    let later = backend.about("later");
    assert_ne!(later.stdout("hostname").await.trim_end(), host);

    postgres.up(&[]).await;
    joins(&later, &host).await;
    assert_eq!(backend.stdout("hostname").await.trim_end(), host);
    assert_eq!(of_project(&world, "P").await.len(), 1);
    assert_eq!(postgres.container("P").await, Some(host));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_never_answers_delays_no_request_for_long() {
    let (world, postgres) = (World::new("hole").await, Postgres::start().await);
    let proxy = Proxy::to(postgres.port).await;
    postgres.project("P").await;
    let (_hutch, backend) = integrated(&world, &postgres, proxy.port, "s-P").await;
    until(&backend, "connected").await;
    backend.stdout("true").await;
    let host = named(&world, &postgres, "P", |_| true).await;
    let host = host.metadata.name.unwrap();
    conversation(&postgres, "later", Some("P")).await;

    proxy.swallow_all();
    let longest = served(&backend, &host).await;
    assert!(longest < MAX_DELAY, "{longest:?}");
    let begin = Instant::now();
    backend.get("/health", &[]).await.ok();
    assert!(begin.elapsed() < MAX_DELAY, "{:?}", begin.elapsed());
    let later = backend.about("later");
    assert_ne!(later.stdout("hostname").await.trim_end(), host);
    until(&backend, "standalone").await;

    proxy.pass_all();
    joins(&later, &host).await;
    until(&backend, "connected").await;
    let all = [&backend, &later];
    for backend in all {
        assert_eq!(backend.stdout("hostname").await.trim_end(), host);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_without_the_column_stops_no_request() {
    let (world, postgres) = (World::new("column").await, Postgres::start().await);
    postgres.project("P").await;
    let drop = "ALTER TABLE projects DROP COLUMN container_name";
    postgres.sql(drop).await;
    let (_hutch, backend) = integrated(&world, &postgres, postgres.port, "s-P").await;
    assert_eq!(backend.stdout("echo here").await, "here\n");
    let health = backend.get("/health", &[]).await.ok();
    assert_eq!(health["status"], "ok");
}
