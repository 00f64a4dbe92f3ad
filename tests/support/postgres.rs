//! A PostgreSQL server for one test: Debian's binaries, the backend's schema, its own port
//! and directory. Dropping it ends it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hutch_db::{DatabaseSettings, Target};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{Connection, Executor, PgConnection, Row};
use tempfile::TempDir;

const SCHEMA: &str = include_str!("schema.sql");
/// How long a start or an end may take.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server, with the database and role `crush`.
pub struct Postgres {
    directory: TempDir,
    pub port: u16,
    child: Option<Child>,
    /// Configuration parameters beyond the usual ones.
    parameters: Vec<String>,
    _template: Arc<TempDir>,
}

impl Postgres {
    /// A server with the schema and no rows.
    pub async fn start() -> Self {
        let mut postgres = Self::stopped().await;
        postgres.up(&[]).await;
        postgres
    }

    /// The same, not started yet.
    pub async fn stopped() -> Self {
        let template = template().await;
        let directory = directory();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(template.path().join("data"))
            .arg(directory.path())
            .status();
        assert!(copied.unwrap().success());
        Self {
            directory,
            port: free_port(),
            child: None,
            parameters: Vec::new(),
            _template: template,
        }
    }

    /// Starts it, with further parameters such as `ssl=on`, and waits until it
    /// answers.
    pub async fn up(&mut self, parameters: &[&str]) {
        self.parameters = parameters.iter().map(ToString::to_string).collect();
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = as_postgres("postgres");
        command
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "shared_buffers=16MB"])
            .args(["-c", "track_commit_timestamp=on"])
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                self.directory.path().display()
            ))
            .stdout(Stdio::null())
            .stderr(log);
        for parameter in &self.parameters {
            command.args(["-c", parameter]);
        }
        self.child = Some(command.spawn().expect("postgres starts"));
        let give_up = Instant::now() + PROCESS_TIMEOUT;
        while self.superuser("postgres").await.is_err() {
            assert!(
                Instant::now() < give_up,
                "postgres does not answer:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it: with `INT` as a service would, with `QUIT` as a crash.
    pub fn down(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = child.id().to_string();
        let _ = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        let give_up = Instant::now() + PROCESS_TIMEOUT;
        while child.try_wait().unwrap().is_none() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// The directory of its data.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Gives a file to the user that the server runs as.
    pub fn own(&self, path: &Path) {
        if let Some((uid, gid)) = postgres_user() {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Runs a statement as superuser, and returns its rows. Several statements return none.
    pub async fn sql(&self, text: &str) -> Vec<PgRow> {
        let mut connection = self.superuser("crush").await.unwrap();
        let text = sqlx::AssertSqlSafe(text.to_owned());
        let rows = sqlx::raw_sql(text).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        rows.unwrap()
    }

    /// Creates a project and its conversation `s-ID`.
    pub async fn project(&self, id: &str) {
        self.sql(&format!(
            "INSERT INTO projects (id, user_id, name) VALUES ('{id}', 'u', 'n'); \
             INSERT INTO sessions (id, project_id, title) VALUES ('s-{id}', '{id}', 't')"
        ))
        .await;
    }

    /// The `container_name` of a project.
    pub async fn container(&self, id: &str) -> Option<String> {
        let rows = self
            .sql(&format!(
                "SELECT container_name FROM projects WHERE id = '{id}'"
            ))
            .await;
        rows[0].get(0)
    }

    /// All writes to `projects` by the role `crush`, oldest first.
    pub async fn writes(&self) -> Vec<(String, Option<String>)> {
        let rows = self
            .sql("SELECT project, container_name FROM writes WHERE role = 'crush' ORDER BY number")
            .await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The arguments with which a Hutch process connects over `port`. The password is the
    /// default.
    pub fn flags(&self, port: u16) -> Vec<String> {
        vec![
            "--postgres-host=127.0.0.1".to_owned(),
            format!("--postgres-port={port}"),
        ]
    }

    /// The same for a user of the library.
    pub fn target(&self, port: u16, password: &str, sslmode: &str) -> Target {
        Target::new(&DatabaseSettings {
            url: None,
            host: "127.0.0.1".to_owned(),
            port,
            user: "crush".to_owned(),
            password: password.to_owned(),
            name: "crush".to_owned(),
            sslmode: sslmode.to_owned(),
        })
        .unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    async fn superuser(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.directory.path())
            .port(self.port)
            .username("postgres")
            .database(database);
        PgConnection::connect_with(&options).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.down("QUIT");
    }
}

/// A directory with a new database cluster that has the schema. All servers that run share
/// one. It is created again if none runs.
async fn template() -> Arc<TempDir> {
    static TEMPLATE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _making = MAKING.lock().await;
    let lock = || TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(template) = lock().upgrade() {
        return template;
    }
    let template = Arc::new(make_template().await);
    *lock() = Arc::downgrade(&template);
    template
}

async fn make_template() -> TempDir {
    let made = directory();
    let output = as_postgres("initdb")
        .args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--username=postgres",
        ])
        .args(["--auth-local=trust", "--auth-host=scram-sha-256", "-D"])
        .arg(made.path().join("data"))
        .output()
        .expect("initdb runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut postgres = Postgres {
        directory: made,
        port: free_port(),
        child: None,
        parameters: Vec::new(),
        _template: Arc::new(directory()),
    };
    postgres.up(&[]).await;
    let mut connection = postgres.superuser("postgres").await.unwrap();
    connection.execute("CREATE DATABASE crush").await.unwrap();
    connection.close().await.unwrap();
    postgres.sql(SCHEMA).await;
    postgres.down("INT");
    let empty = directory();
    std::mem::replace(&mut postgres.directory, empty)
}

/// An empty directory that the server's user may use.
fn directory() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("hutch-postgres-")
        .tempdir_in("/tmp")
        .unwrap();
    if let Some((uid, gid)) = postgres_user() {
        chown(directory.path(), Some(uid), Some(gid)).unwrap();
    }
    directory
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Runs a program of PostgreSQL as a user that it accepts: it refuses root.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new(binary(program));
    command.current_dir("/tmp").stdin(Stdio::null());
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// User and group `postgres`; `None` if this process is not root.
fn postgres_user() -> Option<(u32, u32)> {
    let us = std::fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&us) != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<_> = line.unwrap_or_else(|| missing()).split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// The newest version of Debian's packages, or else the one in PATH.
fn binary(program: &str) -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<_> = installed
        .flatten()
        .map(|version| version.path().join("bin").join(program))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = std::env::split_paths(&path).map(|directory| directory.join(program));
    found
        .pop()
        .or_else(|| elsewhere.into_iter().find(|path| path.is_file()))
        .unwrap_or_else(|| missing())
}

fn missing() -> ! {
    panic!("there is no PostgreSQL server on this machine: apt-get install postgresql")
}
