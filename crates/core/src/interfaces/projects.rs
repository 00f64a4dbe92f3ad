//! The shared database as the service sees it, and what keeping its
//! `projects.container_name` true needs of the cluster. Both ends are behind
//! traits: the database may be away at any time, and nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use thiserror::Error;

use super::ResourceError;
use crate::reasons::Reason;
use hutch_api::Sandbox;

/// A project, as its row has it. Empty texts count as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// `projects.id`.
    pub id: String,
    /// The pod that its conversations use.
    pub container_name: Option<String>,
    /// Working directory of its commands. Unset also where the column is missing.
    pub workdir_path: Option<String>,
}

/// Whether projects can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integration {
    /// The database answers.
    Connected,
    /// Standalone: there is a database, and it does not answer.
    Away,
    /// Standalone: there is no database in the settings.
    NotConfigured,
}

/// How it stands with the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseState {
    /// Whether projects can be looked up.
    pub integration: Integration,
    /// Since when that is so.
    pub since: Timestamp,
    /// The last error of any kind, also of a database that answers. It has no
    /// password in it.
    pub last_error: Option<String>,
}

/// Why the database gave no answer. No text has a password in it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DatabaseError {
    /// It cannot be reached, refuses us, or there is none.
    #[error("the database is away: {0}")]
    Away(String),
    /// A table or column that is needed is missing, or of another type.
    #[error("the database's schema does not fit: {0}")]
    Schema(String),
    /// The role lacks a right.
    #[error("the database does not allow it: {0}")]
    Forbidden(String),
    /// The server takes no writes: a standby, or one that was demoted.
    #[error("the database takes no writes: {0}")]
    ReadOnly(String),
    /// Somebody else holds the row, or there is more to do than can be done.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The server refuses the statement for a reason of its own: a trigger, say.
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

/// Looking up projects. A call takes at most two seconds to get a connection that
/// is free and two for the statement; before the database was ever tried, it waits
/// for that as well. While the database is known to be away every call answers
/// [`DatabaseError::Away`] at once.
pub trait Projects: Send + Sync {
    /// How it stands with the database.
    fn state(&self) -> DatabaseState;

    /// The project of a conversation; `None` where no row has that id, or the
    /// row has no project.
    fn of_session<'a>(
        &'a self,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>>;

    /// The project of that id; `None` where there is no such row.
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>>;
}

/// What is told on a Sandbox about its project's row.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectReport {
    /// The project whose row speaks of the sandbox.
    pub project: String,
    /// `DatabaseSynced`.
    pub condition: Condition,
}

/// The Sandboxes of the one namespace that projects are about, for who keeps
/// `projects.container_name` true.
pub trait ProjectSandboxes: Send + Sync {
    /// How much longer this replica may write: `None` unless it leads and its
    /// caches have been filled.
    fn may_write(&self) -> Option<Duration>;

    /// All of them, as the cache has them.
    fn all(&self) -> Vec<Arc<Sandbox>>;

    /// True if there is a sandbox of that name that does not decode. `all` may lack it.
    fn is_unreadable(&self, name: &str) -> bool;

    /// Changes its value after every change of any sandbox.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Whether a pod of that name, ours or not, is there and neither ends nor
    /// has ended: as the API server has it now. Any text is a name.
    fn pod_lives<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Writes the report on the sandbox, or takes it off. A sandbox that is gone
    /// is no error.
    fn report<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        report: Option<&'a ProjectReport>,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;

    /// An event that a person should look at.
    fn warn<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        reason: &'a str,
        note: &'a str,
    ) -> BoxFuture<'a, ()>;
}
