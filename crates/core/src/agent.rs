//! The ways in which a call to an agent comes to nothing.

use thiserror::Error;

/// Why a call has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AgentError {
    /// The request is wrong as it stands; nothing was done.
    #[error("{0}")]
    Invalid(String),
    /// What is named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Something of that name exists.
    #[error("{0}")]
    Exists(String),
    /// What is named is not of the kind that the call works on.
    #[error("{0}")]
    Unsuitable(String),
    /// The sandbox's user may not do this.
    #[error("{0}")]
    Denied(String),
    /// Past a limit, or nothing is left of something.
    #[error("{0}")]
    Full(String),
    /// The sandbox cannot start the command: no shell, no room for another
    /// process.
    #[error("the command could not be started: {0}")]
    CannotStart(String),
    /// The container is not Hutch's, and no agent can run in it until somebody
    /// changes something.
    #[error("Hutch cannot work in the container: {0}")]
    NoAgent(String),
    /// The sandbox cannot be reached; nothing was handed over, so the call may
    /// be made again.
    #[error("the sandbox cannot be reached: {0}")]
    Unreachable(String),
    /// The call was handed over and its outcome is not known: it may have had
    /// its effect, and is never made again.
    #[error("the outcome is lost: {0}")]
    Lost(String),
}
