//! The errors that most use cases share. Their texts reach clients.

use std::time::Duration;

use thiserror::Error;

use hutch_core::agent::AgentError;
use hutch_core::interfaces::ResourceError;

/// Why a use case failed.
#[derive(Clone, Debug, Error)]
pub enum ServiceError {
    /// The namespace has `max_sandboxes` sandboxes already.
    #[error("the limit of {0} sandboxes is reached: delete one that is not needed any more")]
    Limit(usize),
    /// The sandbox did not become ready in time.
    #[error("the sandbox is not ready after {}s: {why}", waited.as_secs())]
    NotReady {
        /// How long the request waited.
        waited: Duration,
        /// The reason and message of its Ready condition.
        why: String,
    },
    /// The service has just started and its caches are not filled yet.
    #[error("what sandboxes there are is not known yet, after {}s: try again", waited.as_secs())]
    Starting {
        /// How long the request waited.
        waited: Duration,
    },
    /// The sandbox is in phase `Failed`: it cannot run until somebody changes its spec
    /// or the cluster.
    #[error("the sandbox cannot run: {0}")]
    Failed(String),
    /// The named sandbox or pod is gone, and a request may not create it again.
    #[error("the sandbox {0} is gone")]
    Gone(String),
    /// A user set `spec.suspended`. A request does not wake such a sandbox.
    #[error("the sandbox is suspended: set spec.suspended to false to use it")]
    Suspended,
    /// The sandbox of this name belongs to another ID.
    #[error("the name {0} belongs to a sandbox with another id")]
    NameTaken(String),
    /// A resource could not be read or written.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The sandbox's agent refused the request or did not answer.
    #[error(transparent)]
    Agent(#[from] AgentError),
}
