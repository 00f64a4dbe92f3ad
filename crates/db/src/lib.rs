//! The shared database: looking up projects, and keeping
//! `projects.container_name` true. Its schema is the backend's: of it only
//! `sessions.id`, `sessions.project_id` and `projects.id`, `container_name`,
//! `workdir_path` and `updated_at` are named here, and there is no DDL. The
//! database may be away at any time; nobody waits for it longer than a moment.

mod circuit;
mod connections;
mod decide;
mod due;
mod error;
mod projector;
mod projects;
mod report;
mod target;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sqlx::postgres::PgRow;
use tokio::time::{sleep, timeout};

use circuit::Circuit;
use connections::Connections;
use hutch_core::interfaces::DatabaseError;
pub use projector::Projector;
pub use target::{DatabaseSettings, Target};

/// How often an unused connection is looked at, so that a database that went
/// away or became read-only is noticed without a request.
const LOOK: Duration = Duration::from_secs(10);
/// First and longest wait before a database that is away is tried again. With
/// the deadline of a connect the longest makes five seconds.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(3));

/// The database, or that there is none. Every call on it ends within its
/// deadline, and at once while the database is known to be away.
pub struct Database {
    connections: Option<Connections>,
    circuit: Circuit,
}

impl Database {
    /// The database at `target`; nothing is connected yet.
    pub fn new(target: Option<Target>, registry: &mut Registry) -> Arc<Self> {
        let circuit = Circuit::new(target.as_ref().map(Target::to_string), registry);
        Arc::new(Self {
            connections: target.map(Connections::new),
            circuit,
        })
    }

    /// Whether there is one in the settings.
    pub const fn configured(&self) -> bool {
        self.connections.is_some()
    }

    /// Keeps the state true for as long as it is polled: connects, looks whether
    /// the database is still there, and tries again when it is not.
    pub async fn keep(&self) {
        let Some(connections) = &self.connections else {
            tracing::info!(
                "running standalone because no database is configured (DATABASE_URL, POSTGRES_*)"
            );
            return std::future::pending().await;
        };
        let mut wait = RETRY.0;
        loop {
            match connections.look().await {
                Ok(()) => {
                    self.circuit.found();
                    wait = RETRY.0;
                    // Ends early when a statement finds the database gone.
                    let _ = timeout(LOOK, self.circuit.opened()).await;
                }
                Err(error) => {
                    self.circuit.failed(&error, true);
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    /// The rows of a statement that may be run twice, with texts as arguments.
    async fn rows(
        &self,
        statement: &'static str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<PgRow>, DatabaseError> {
        let Some(connections) = &self.connections else {
            return Err(DatabaseError::Away("none is configured".to_owned()));
        };
        self.circuit.closed().await?;
        let result = tokio::select! {
            biased;
            result = connections.rows(statement, arguments) => result,
            error = self.circuit.opened() => Err(error),
        };
        if let Err(error) = &result {
            self.circuit.failed(error, false);
        }
        result
    }
}
