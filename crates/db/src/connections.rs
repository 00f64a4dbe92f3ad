//! A small connection pool. Each connection runs one statement at a time.
//!
//! sqlx's own pool does not fit: it pings a connection before it reuses it, the
//! ping may hang, and it keeps connections to a server that was demoted. Here a
//! connection returns to the pool only after a success, and everything has a
//! deadline.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Error, PgConnection, Row};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::error::{classify, is_connection_lost};
use super::target::Target;
use hutch_core::interfaces::DatabaseError;
use hutch_core::sync::Lock;
use hutch_telemetry::{measured, operation};

const MAX_CONNECTIONS: usize = 8;
/// The longest wait for a free connection, and the longest time for connecting
/// plus one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for this long is not reused: it may be dead
/// without notice, because sqlx has no TCP keepalive.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// Runs on every new connection.
///
/// The server's timeouts are shorter than [`STATEMENT_TIMEOUT`]. So the server
/// ends a statement that we gave up, and a locked row differs from a server that
/// does not answer. `synchronous_commit` is off because the server's disk may
/// stall for seconds. A crash of the server may then lose our last writes; they
/// are written again, because the projector compares all rows after a reconnect.
const SESSION_SETTINGS: &str = "SELECT set_config('statement_timeout', '1800', false), \
     set_config('lock_timeout', '1000', false), \
     set_config('synchronous_commit', 'off', false)";
/// Detects a server that was demoted to a standby.
const PROBE: &str = "SELECT current_setting('transaction_read_only') AS read_only";

/// The connections to one database.
pub struct Connections {
    target: Target,
    permits: Semaphore,
    idle: Lock<Vec<Idle>>,
    /// Incremented to discard all connections that exist so far.
    epoch: AtomicU64,
    /// The result of the last probe.
    read_only: AtomicBool,
}

struct Idle {
    connection: PgConnection,
    epoch: u64,
    used: Instant,
}

impl Connections {
    /// An empty pool. The first statement opens a connection.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            permits: Semaphore::new(MAX_CONNECTIONS),
            idle: Lock::default(),
            epoch: AtomicU64::new(0),
            read_only: AtomicBool::new(false),
        }
    }

    /// Runs a statement with text arguments and returns its rows. If the first
    /// connection turns out to be dead, the statement runs again on a new one. So
    /// it must be safe to run twice.
    pub async fn rows(
        &self,
        statement: &'static str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<PgRow>, DatabaseError> {
        let span = operation!(
            "database",
            db.system.name = "postgresql",
            db.query.text = statement
        );
        measured(span, self.rows_in_time(statement, arguments)).await
    }

    async fn rows_in_time(
        &self,
        statement: &'static str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<PgRow>, DatabaseError> {
        let Ok(permit) = timeout(STATEMENT_TIMEOUT, self.permits.acquire()).await else {
            return Err(DatabaseError::Busy("no connection is free".to_owned()));
        };
        let result = match timeout(STATEMENT_TIMEOUT, self.attempt(statement, arguments)).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => Err(DatabaseError::Away(format!(
                "no answer within {STATEMENT_TIMEOUT:?}"
            ))),
        };
        drop(permit);
        // The other connections lead to the same demoted or unreachable server.
        if let Err(DatabaseError::ReadOnly(_) | DatabaseError::Away(_)) = &result {
            self.discard();
        }
        result
    }

    /// Checks that the database answers. If it has become read-only, all
    /// connections are replaced: a new one may reach the new primary.
    pub async fn probe(&self) -> Result<(), DatabaseError> {
        let rows = self.rows(PROBE, &[]).await?;
        let read_only = rows
            .first()
            .is_some_and(|row| row.try_get::<String, _>(0).is_ok_and(|is| is == "on"));
        if read_only && !self.read_only.swap(true, Ordering::Relaxed) {
            tracing::warn!("{} takes no writes: connecting anew", self.target);
            self.discard();
        } else if !read_only && self.read_only.swap(false, Ordering::Relaxed) {
            tracing::info!("{} takes writes again", self.target);
        }
        Ok(())
    }

    async fn attempt(
        &self,
        statement: &'static str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<PgRow>, Error> {
        let first = match self.take() {
            Some(idle) => idle,
            None => self.connect().await?,
        };
        match self.run_on(first, statement, arguments).await {
            // The server may have ended all connections, so discard the new ones too.
            Err(error) if is_connection_lost(&error) => self.discard(),
            result => return result,
        }
        let second = self.connect().await?;
        self.run_on(second, statement, arguments).await
    }

    async fn connect(&self) -> Result<Idle, Error> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let mut connection = self.target.connect().await?;
        fetch(&mut connection, SESSION_SETTINGS, &[]).await?;
        Ok(Idle {
            connection,
            epoch,
            used: Instant::now(),
        })
    }

    async fn run_on(
        &self,
        mut idle: Idle,
        statement: &'static str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<PgRow>, Error> {
        let rows = fetch(&mut idle.connection, statement, arguments).await?;
        self.put(idle);
        Ok(rows)
    }

    fn take(&self) -> Option<Idle> {
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.used.elapsed() < MAX_IDLE);
        idle.pop()
    }

    fn put(&self, mut returned: Idle) {
        returned.used = Instant::now();
        let mut idle = self.idle.lock();
        if returned.epoch == self.epoch.load(Ordering::Acquire) {
            idle.push(returned);
        }
    }

    fn discard(&self) {
        let mut idle = self.idle.lock();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        idle.clear();
    }
}

async fn fetch(
    connection: &mut PgConnection,
    statement: &'static str,
    arguments: &[Option<&str>],
) -> Result<Vec<PgRow>, Error> {
    let query = sqlx::query(statement);
    let query = arguments
        .iter()
        .fold(query, |query, argument| query.bind(*argument));
    query.fetch_all(connection).await
}
