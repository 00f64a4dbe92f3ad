//! A few connections, each used by one statement at a time. sqlx's own pool is
//! not used: it hands a connection back through a ping that may hang, and keeps
//! those to a server that was demoted. Here a connection survives nothing but
//! success, and everything has a deadline.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Error, PgConnection, Row};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::error::{lost, sorted};
use super::target::Target;
use hutch_core::interfaces::DatabaseError;
use hutch_telemetry::{measured, operation};

/// Connections at most.
const SIZE: usize = 8;
/// How long connecting and one statement may take together, and how long to wait
/// for a connection that is free.
const DEADLINE: Duration = Duration::from_secs(2);
/// A connection that was not used for so long may have died in silence (sqlx has
/// no TCP keepalive) and is not used again.
const IDLE: Duration = Duration::from_secs(60);

/// On a new connection: the server's own deadlines, below ours, so that a
/// statement that we gave up does not go on there and a locked row is told from
/// a server that does not answer. And no waiting for the server's disk, which
/// may stall for seconds: what a crash of the server can lose of our writes is
/// written again, because everything is compared after connecting anew.
const BEGIN: &str = "SELECT set_config('statement_timeout', '1800', false), \
     set_config('lock_timeout', '1000', false), \
     set_config('synchronous_commit', 'off', false)";
/// On a connection that was used before.
const LOOK: &str = "SELECT current_setting('transaction_read_only') AS read_only";

/// The connections to one database.
pub struct Connections {
    target: Target,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// Raised when all connections made so far are to be thrown away.
    epoch: AtomicU64,
    /// What was seen last.
    read_only: AtomicBool,
}

struct Idle {
    connection: PgConnection,
    epoch: u64,
    used: Instant,
}

impl Connections {
    /// None is opened yet.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            permits: Semaphore::new(SIZE),
            idle: Mutex::default(),
            epoch: AtomicU64::new(0),
            read_only: AtomicBool::new(false),
        }
    }

    /// The rows of a statement with texts as arguments. It is run a second time
    /// on a fresh connection where the first one turns out to have died, so it
    /// has to be one that may be run twice.
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
        measured(span, self.answered(statement, arguments)).await
    }

    async fn answered(
        &self,
        statement: &'static str,
        arguments: &[Option<&str>],
    ) -> Result<Vec<PgRow>, DatabaseError> {
        let Ok(permit) = timeout(DEADLINE, self.permits.acquire()).await else {
            return Err(DatabaseError::Busy("no connection is free".to_owned()));
        };
        let result = match timeout(DEADLINE, self.attempt(statement, arguments)).await {
            Ok(result) => result.map_err(|error| sorted(&error)),
            Err(_) => Err(DatabaseError::Away(format!(
                "no answer within {DEADLINE:?}"
            ))),
        };
        drop(permit);
        // Where the server was demoted the others lead to it, too, and where it
        // is away they lead nowhere.
        if let Err(DatabaseError::ReadOnly(_) | DatabaseError::Away(_)) = &result {
            self.discard();
        }
        result
    }

    /// Whether the database answers. One that has become read-only is connected
    /// to anew, which may lead to the new primary.
    pub async fn look(&self) -> Result<(), DatabaseError> {
        let rows = self.rows(LOOK, &[]).await?;
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
            // One that was made a moment ago may have been ended as well.
            Err(error) if lost(&error) => self.discard(),
            result => return result,
        }
        let second = self.connect().await?;
        self.run_on(second, statement, arguments).await
    }

    async fn connect(&self) -> Result<Idle, Error> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let mut connection = self.target.connect().await?;
        run(&mut connection, BEGIN, &[]).await?;
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
        let rows = run(&mut idle.connection, statement, arguments).await?;
        self.put(idle);
        Ok(rows)
    }

    fn take(&self) -> Option<Idle> {
        let mut idle = self.lock();
        idle.retain(|idle| idle.used.elapsed() < IDLE);
        idle.pop()
    }

    fn put(&self, mut returned: Idle) {
        returned.used = Instant::now();
        let mut idle = self.lock();
        if returned.epoch == self.epoch.load(Ordering::Acquire) {
            idle.push(returned);
        }
    }

    fn discard(&self) {
        let mut idle = self.lock();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        idle.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(
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
