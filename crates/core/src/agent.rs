//! The ways in which a call to an agent can fail.

use thiserror::Error;

/// The reason why a call has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AgentError {
    /// The request is invalid. It had no effect.
    #[error("{0}")]
    Invalid(String),
    /// The named object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// An object of that name exists.
    #[error("{0}")]
    Exists(String),
    /// The named object has another kind than the call needs.
    #[error("{0}")]
    Unsuitable(String),
    /// The sandbox's user may not do this.
    #[error("{0}")]
    Denied(String),
    /// A limit is exceeded, or a resource is used up.
    #[error("{0}")]
    Full(String),
    /// The sandbox cannot start the command: it has no shell, or no room for another
    /// process.
    #[error("the command could not be started: {0}")]
    CannotStart(String),
    /// The pod is an attached pod, and no agent can run in it until somebody changes
    /// something.
    #[error("Hutch cannot work in the container: {0}")]
    NoAgent(String),
    /// The sandbox cannot be reached. The agent did not get the call, so it may be
    /// repeated.
    #[error("the sandbox cannot be reached: {0}")]
    Unreachable(String),
    /// The agent got the call and the outcome is unknown. It may have had its effect, so
    /// it is never repeated.
    #[error("the outcome is lost: {0}")]
    Lost(String),
}
