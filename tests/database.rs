//! Look-ups of projects in a real PostgreSQL server: the meaning of rows, and how long a
//! request waits for a database that does not work. No cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "database/projector.rs"]
mod projector;
#[path = "support/proxy.rs"]
mod proxy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hutch_core::interfaces::{DatabaseError, Integration, Project, Projects};
use hutch_db::{Database, DatabaseSettings, Target};
use postgres::Postgres;
use prometheus_client::registry::Registry;
use proxy::Proxy;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sqlx::Row;

/// The longest time that a caller may wait for a database that is known to be away.
const FAIL_FAST_LIMIT: Duration = Duration::from_millis(50);

fn open(target: Target) -> Arc<Database> {
    let database = Database::new(Some(target), &mut Registry::default());
    let keeper = database.clone();
    tokio::spawn(async move { keeper.run().await });
    database
}

fn opened(postgres: &Postgres) -> Arc<Database> {
    open(postgres.target(postgres.port, "123456", "disable"))
}

async fn until(database: &Database, integration: Integration) {
    let give_up = Instant::now() + Duration::from_secs(15);
    while database.state().integration != integration {
        assert!(Instant::now() < give_up, "{:?}", database.state());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_conversation_leads_to_its_project() {
    let postgres = Postgres::start().await;
    postgres.project("P").await;
    postgres
        .sql("INSERT INTO sessions (id, title) VALUES ('alone', 't')")
        .await;
    let database = opened(&postgres);
    // The first look-up waits for the first connection.
    let found = database.of_session("s-P").await.unwrap().unwrap();
    let mut expected = Project {
        id: "P".to_owned(),
        ..Project::default()
    };
    assert_eq!(found, expected);
    for none in ["alone", "nobody", "", "x\0y", "'; --", "用"] {
        assert_eq!(database.of_session(none).await.unwrap(), None, "{none:?}");
        assert_eq!(database.get(none).await.unwrap(), None, "{none:?}");
    }
    postgres
        .sql("UPDATE projects SET container_name = 'pod', workdir_path = '/work'")
        .await;
    expected.container_name = Some("pod".to_owned());
    expected.workdir_path = Some("/work".to_owned());
    assert_eq!(database.of_session("s-P").await.unwrap().unwrap(), expected);
    assert_eq!(database.get("P").await.unwrap().unwrap(), expected);
    postgres
        .sql("UPDATE projects SET container_name = '', workdir_path = ''")
        .await;
    let empty = database.get("P").await.unwrap().unwrap();
    assert_eq!((empty.container_name, empty.workdir_path), (None, None));
    assert_eq!(database.state().integration, Integration::Connected);
}

#[tokio::test]
async fn an_older_or_newer_schema_is_read_as_far_as_possible() {
    let postgres = Postgres::start().await;
    postgres.project("P").await;
    let database = opened(&postgres);
    assert!(database.get("P").await.unwrap().is_some());
    // The schema changes under a connection with prepared statements.
    postgres
        .sql("ALTER TABLE projects DROP COLUMN workdir_path; ALTER TABLE projects ADD COLUMN newer TEXT")
        .await;
    assert!(database.get("P").await.unwrap().is_some());
    assert!(database.of_session("s-P").await.unwrap().is_some());
    postgres
        .sql("ALTER TABLE projects ADD COLUMN workdir_path TEXT DEFAULT '/back'")
        .await;
    let found = database.get("P").await.unwrap().unwrap();
    assert_eq!(found.workdir_path.as_deref(), Some("/back"));

    postgres
        .sql("ALTER TABLE projects DROP COLUMN container_name")
        .await;
    let error = database.get("P").await.unwrap_err();
    assert!(
        matches!(&error, DatabaseError::Schema(why) if why.contains("container_name")),
        "{error}"
    );
    assert!(!error.away());
    // The database itself is connected.
    assert_eq!(database.state().integration, Integration::Connected);
    postgres.sql("REVOKE SELECT ON sessions FROM crush").await;
    postgres
        .sql("ALTER TABLE projects ADD COLUMN container_name TEXT")
        .await;
    let error = database.of_session("s-P").await.unwrap_err();
    assert!(matches!(error, DatabaseError::Forbidden(_)), "{error}");
    assert!(database.get("P").await.unwrap().is_some());
}

#[tokio::test]
async fn the_rights_of_the_contract_and_fewer_are_enough() {
    let postgres = Postgres::start().await;
    postgres.project("P").await;
    postgres
        .sql(
            "REVOKE ALL ON projects, sessions FROM crush; \
             GRANT SELECT (id, project_id) ON sessions TO crush; \
             GRANT SELECT (id, container_name, workdir_path), \
                   UPDATE (container_name, updated_at) ON projects TO crush",
        )
        .await;
    let database = opened(&postgres);
    assert!(database.of_session("s-P").await.unwrap().is_some());
}

#[tokio::test]
async fn a_restart_is_survived_and_an_outage_is_answered_at_once() {
    let mut postgres = Postgres::start().await;
    postgres.project("P").await;
    let database = opened(&postgres);
    assert!(database.get("P").await.unwrap().is_some());
    // The connections end and the server is up again: no request notices it.
    postgres.down("QUIT");
    postgres.up(&[]).await;
    assert!(database.get("P").await.unwrap().is_some());

    postgres.down("INT");
    assert!(database.get("P").await.unwrap_err().away());
    assert_eq!(database.state().integration, Integration::Away);
    let begin = Instant::now();
    let error = database.get("P").await.unwrap_err();
    assert!(error.away() && begin.elapsed() < FAIL_FAST_LIMIT, "{error}");
    assert!(database.state().last_error.is_some());
    postgres.up(&[]).await;
    let begin = Instant::now();
    until(&database, Integration::Connected).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(database.get("P").await.unwrap().is_some());
}

#[tokio::test]
async fn a_black_hole_costs_one_deadline_and_then_nothing() {
    let postgres = Postgres::start().await;
    postgres.project("P").await;
    let proxy = Proxy::to(postgres.port).await;
    let database = open(postgres.target(proxy.port, "123456", "disable"));
    assert!(database.get("P").await.unwrap().is_some());
    proxy.swallow_all();
    let begin = Instant::now();
    let calls = (0..40).map(|_| database.get("P"));
    let answers = futures::future::join_all(calls).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_err_and(DatabaseError::away))
    );
    assert!(
        begin.elapsed() < Duration::from_millis(2500),
        "{:?}",
        begin.elapsed()
    );
    for _ in 0..100 {
        let begin = Instant::now();
        assert!(database.get("P").await.unwrap_err().away());
        assert!(begin.elapsed() < FAIL_FAST_LIMIT, "{:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.pass_all();
    let begin = Instant::now();
    until(&database, Integration::Connected).await;
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    assert!(database.get("P").await.unwrap().is_some());
}

#[tokio::test]
async fn a_database_that_is_down_at_the_start_is_used_when_it_is_up() {
    let mut postgres = Postgres::stopped().await;
    let database = opened(&postgres);
    assert!(database.get("P").await.unwrap_err().away());
    postgres.up(&[]).await;
    until(&database, Integration::Connected).await;
    assert_eq!(database.get("P").await.unwrap(), None);
}

#[tokio::test]
async fn a_wrong_password_is_reported_without_the_password() {
    let postgres = Postgres::start().await;
    let database = open(postgres.target(postgres.port, "wrong-secret", "disable"));
    assert!(database.get("P").await.unwrap_err().away());
    let state = database.state();
    let text = state.last_error.unwrap();
    assert!(text.contains("password authentication failed") && !text.contains("wrong-secret"));
    assert_eq!(state.integration, Integration::Away);
}

#[tokio::test]
async fn without_settings_there_is_no_database() {
    let database = Database::new(None, &mut Registry::default());
    assert_eq!(database.state().integration, Integration::NotConfigured);
    assert!(database.of_session("s").await.unwrap_err().away());
}

#[tokio::test]
async fn every_sslmode_has_the_meaning_of_postgresql() {
    let mut postgres = Postgres::stopped().await;
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("ours"), ours.pem()).unwrap();
    std::fs::write(path("other"), other.pem()).unwrap();
    let data = postgres.data();
    certify(&postgres, &ours);
    let encrypted_only = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    let default = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    std::fs::write(data.join("pg_hba.conf"), encrypted_only).unwrap();
    postgres.up(&["ssl=on"]).await;
    let to = |host: &str, mode: &str, authority: &str| {
        let port = postgres.port;
        let url = format!(
            "postgres://crush:123456@{host}:{port}/crush?sslmode={mode}&sslrootcert={authority}"
        );
        url_target(&url)
    };
    let (right, wrong) = (path("ours"), path("other"));
    // The certificate is for `localhost`, not for the address.
    let cases = [
        ("127.0.0.1", "disable", &right, false),
        ("127.0.0.1", "allow", &right, true),
        ("127.0.0.1", "prefer", &right, true),
        ("127.0.0.1", "require", &wrong, true),
        ("127.0.0.1", "verify-ca", &right, true),
        ("127.0.0.1", "verify-ca", &wrong, false),
        ("127.0.0.1", "verify-full", &right, false),
        ("localhost", "verify-full", &right, true),
        ("localhost", "verify-full", &wrong, false),
    ];
    for (host, mode, authority, works) in cases {
        let database = open(to(host, mode, authority));
        let answer = database.get("P").await;
        assert_eq!(answer.is_ok(), works, "{host} {mode}: {answer:?}");
    }
    let rows = postgres.sql("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'crush'").await;
    assert!(rows[0].get::<i64, _>(0) >= 5);

    // A server that does not accept TLS.
    postgres.down("INT");
    std::fs::write(data.join("pg_hba.conf"), default).unwrap();
    postgres.up(&[]).await;
    for (mode, works) in [
        ("disable", true),
        ("allow", true),
        ("prefer", true),
        ("require", false),
    ] {
        let database = open(postgres.target(postgres.port, "123456", mode));
        assert_eq!(database.get("P").await.is_ok(), works, "{mode}");
    }
}

/// Gives the server a certificate for `localhost`.
fn certify(postgres: &Postgres, authority: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let file = postgres.data().join(name);
        std::fs::write(&file, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        postgres.own(&file);
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn url_target(url: &str) -> Target {
    let nothing = String::new;
    Target::new(&DatabaseSettings {
        url: Some(url.to_owned()),
        host: nothing(),
        port: 0,
        user: nothing(),
        password: nothing(),
        name: nothing(),
        sslmode: nothing(),
    })
    .unwrap()
}
