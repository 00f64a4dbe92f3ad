//! Why a use case failed, in words that a client can act on.

use std::time::Duration;

use thiserror::Error;

use hutch_core::agent::AgentError;
use hutch_core::interfaces::ResourceError;

/// Why a use case failed.
#[derive(Clone, Debug, Error)]
pub enum ServiceError {
    /// One more sandbox is not allowed.
    #[error("the limit of {0} sandboxes is reached: delete one that is not needed any more")]
    Limit(usize),
    /// The sandbox did not become ready in time.
    #[error("the sandbox is not ready after {}s: {why}", waited.as_secs())]
    NotReady {
        /// How long the request waited.
        waited: Duration,
        /// What the sandbox's conditions say.
        why: String,
    },
    /// The service has just begun, and the cluster has not answered yet.
    #[error("what sandboxes there are is not known yet, after {}s: try again", waited.as_secs())]
    Starting {
        /// How long the request waited.
        waited: Duration,
    },
    /// The sandbox cannot run until somebody changes something.
    #[error("the sandbox cannot run: {0}")]
    Failed(String),
    /// The sandbox that was named is gone, and not to be made again.
    #[error("the sandbox {0} is gone")]
    Gone(String),
    /// Somebody set `spec.suspended`.
    #[error("the sandbox is suspended: set spec.suspended to false to use it")]
    Suspended,
    /// Another id has this sandbox's name.
    #[error("the name {0} belongs to a sandbox with another id")]
    NameTaken(String),
    /// The resource could not be read or written.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The sandbox's agent refuses, or has no answer.
    #[error(transparent)]
    Agent(#[from] AgentError),
}
