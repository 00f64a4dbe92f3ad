//! The shared database, and the sandboxes of its projects. The database may be away at any
//! time. The service bounds how long a request waits for it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use thiserror::Error;

use super::ResourceError;
use crate::reasons::Reason;
use hutch_api::Sandbox;

/// A row of `projects`. Empty texts count as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// `projects.id`.
    pub id: String,
    /// The name of the pod that its conversations use.
    pub container_name: Option<String>,
    /// Working directory of its commands. `None` as well if the column is missing.
    pub workdir_path: Option<String>,
}

/// The state of the connection to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integration {
    /// The database answers.
    Connected,
    /// A database is configured and does not answer. Hutch works without it.
    Away,
    /// No database is configured.
    NotConfigured,
}

/// The state of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseState {
    /// The state of the connection.
    pub integration: Integration,
    /// Time since which the connection has had this state.
    pub since: Timestamp,
    /// The last error of any kind, even if the database answers now. It contains no
    /// password.
    pub last_error: Option<String>,
}

/// The reason why the database gave no answer. No text contains a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DatabaseError {
    /// It cannot be reached, refuses the connection, or is not configured.
    #[error("the database is away: {0}")]
    Away(String),
    /// A table or column is missing or has another type.
    #[error("the database's schema does not fit: {0}")]
    Schema(String),
    /// The role lacks a permission.
    #[error("the database does not allow it: {0}")]
    Forbidden(String),
    /// The server accepts no writes. It is a standby, or was demoted.
    #[error("the database takes no writes: {0}")]
    ReadOnly(String),
    /// Another client has locked the row, or too many calls are in progress.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The server rejects the statement for another reason, such as a trigger.
    #[error("the database refuses it: {0}")]
    Refused(String),
}

impl DatabaseError {
    /// True if the caller can go on without the database: a retry may succeed. A user must
    /// hear of every other error.
    pub const fn away(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Busy(_))
    }

    /// The reason for conditions and events.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Away(_) => Reason::DatabaseAway,
            Self::Schema(_) => Reason::SchemaMismatch,
            Self::Forbidden(_) => Reason::DatabaseForbidden,
            Self::ReadOnly(_) => Reason::DatabaseReadOnly,
            Self::Busy(_) => Reason::DatabaseBusy,
            Self::Refused(_) => Reason::DatabaseRefused,
        }
    }

    /// The label of metrics and logs: the text of the reason.
    pub const fn kind(&self) -> &'static str {
        self.reason().as_str()
    }
}

/// Looks up projects. A call waits at most two seconds for a free connection and two for the
/// statement. It also waits for the very first connection attempt. While the database is away,
/// every call returns [`DatabaseError::Away`] at once.
pub trait Projects: Send + Sync {
    /// The state of the database.
    fn state(&self) -> DatabaseState;

    /// The project of a conversation. `None` if no row has that ID, or the row has no project.
    fn of_session<'a>(
        &'a self,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>>;

    /// The project with that ID, if there is a row.
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>>;
}

/// The report about a project's row, which is written on the project's sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectReport {
    /// The ID of the project.
    pub project: String,
    /// The condition `DatabaseSynced`.
    pub condition: Condition,
}

/// The sandboxes of the one namespace that has projects, for the projector.
pub trait ProjectSandboxes: Send + Sync {
    /// How much longer this replica may write. `None` if it does not lead, or its cache has no
    /// first listing yet.
    fn may_write(&self) -> Option<Duration>;

    /// All sandboxes of the cache.
    fn all(&self) -> Vec<Arc<Sandbox>>;

    /// True if there is a sandbox of that name that does not decode. `all` may lack it.
    fn is_unreadable(&self, name: &str) -> bool;

    /// A counter that grows with every change of any sandbox.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// True if the API server has a pod of that name now, Hutch's or not, that is not ending
    /// and has not ended. `name` may be any text.
    fn pod_lives<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Writes the report on the sandbox, or removes it. A sandbox that does not exist is no
    /// error.
    fn report<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        report: Option<&'a ProjectReport>,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;

    /// Writes an event of type Warning.
    fn warn<'a>(&'a self, sandbox: &'a Sandbox, reason: Reason, note: &'a str)
    -> BoxFuture<'a, ()>;
}
