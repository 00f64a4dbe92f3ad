//! The database that Hutch shares with the coding assistant's backend. Hutch looks
//! up projects there and keeps the column `projects.container_name` equal to the
//! name of the running pod.
//!
//! Where to start reading:
//!
//! - [`Database`] is the entry point; `projects` has the SQL statements.
//! - `circuit` knows if the database answers. While it is away, calls fail at once.
//! - `connections` is the connection pool, `target` the address and the login,
//!   `error` the meaning of SQLSTATE codes.
//! - [`Projector`] writes `container_name`. `schedule` says which project is due,
//!   `decide` (pure) which name its row should have, `report` which condition the
//!   sandbox gets.
//!
//! *Invariants:* The backend owns the schema. Hutch runs no DDL and names only
//! `sessions.{id, project_id}` and `projects.{id, container_name, workdir_path,
//! updated_at}`. Every call has a deadline, because the database may be away at any
//! time. The projector writes on the leader only.

mod circuit;
mod connections;
mod decide;
mod error;
mod projector;
mod projects;
mod report;
mod schedule;
mod target;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sqlx::postgres::PgRow;
use tokio::time::{sleep, timeout};

use circuit::{Attempt, Circuit};
use connections::Connections;
use hutch_core::backoff::Backoff;
use hutch_core::interfaces::DatabaseError;
pub use projector::Projector;
pub use target::{DatabaseSettings, Target};

/// Time between two probes of a connected database. They notice that it went away or
/// became read-only, even without a request.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Waits before a database that is away is probed again. The longest one and the 2 s that a
/// connect may take are 5 s together.
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(3));

/// The shared database. If none is configured, or while it is away, every call
/// fails at once with [`DatabaseError::Away`]. Every other call ends within its
/// deadline.
pub struct Database {
    connections: Option<Connections>,
    circuit: Circuit,
}

impl Database {
    /// The database at `target`; `None` means that none is configured. Nothing
    /// connects before [`Database::run`].
    pub fn new(target: Option<Target>, registry: &mut Registry) -> Arc<Self> {
        let circuit = Circuit::new(target.as_ref().map(Target::to_string), registry);
        Arc::new(Self {
            connections: target.map(Connections::new),
            circuit,
        })
    }

    /// True if the settings name a database.
    pub const fn configured(&self) -> bool {
        self.connections.is_some()
    }

    /// Connects, probes the database regularly and reconnects after a failure. Runs
    /// for ever. Without it every call waits for the first probe.
    pub async fn run(&self) {
        let Some(connections) = &self.connections else {
            tracing::info!(
                "running standalone because no database is configured (DATABASE_URL, POSTGRES_*)"
            );
            return std::future::pending().await;
        };
        let mut failures = 0;
        loop {
            match connections.probe().await {
                Ok(()) => {
                    self.circuit.record_success();
                    failures = 0;
                    // Ends early if a statement finds that the database is away.
                    let _ = timeout(PROBE_EVERY, self.circuit.wait_unavailable()).await;
                }
                Err(error) => {
                    self.circuit.record_failure(&error, Attempt::Probe);
                    failures += 1;
                    sleep(RETRY.after(failures)).await;
                }
            }
        }
    }

    /// Runs a statement with text arguments. The statement must be safe to run twice.
    async fn rows(
        &self,
        statement: &'static str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<PgRow>, DatabaseError> {
        let Some(connections) = &self.connections else {
            return Err(DatabaseError::Away("none is configured".to_owned()));
        };
        self.circuit.wait_available().await?;
        let result = tokio::select! {
            biased;
            result = connections.rows(statement, arguments) => result,
            error = self.circuit.wait_unavailable() => Err(error),
        };
        if let Err(error) = &result {
            self.circuit.record_failure(error, Attempt::Statement);
        }
        result
    }
}
