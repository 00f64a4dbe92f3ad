//! What it means to run a command in a sandbox: the request, the outcome, and
//! the ways in which neither comes about.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments, without a shell.
    Argv(Vec<String>),
    /// A shell script, run byte for byte.
    Script(Bytes),
}

/// One command, and the bounds that it runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// What is to be run.
    pub program: Program,
    /// Working directory. Unset: the workspace.
    pub cwd: Option<String>,
    /// Environment of this command alone, on top of the sandbox's.
    pub env: BTreeMap<String, String>,
    /// When it passes, the whole process group is killed.
    pub timeout: Option<Duration>,
    /// Bytes kept of each of stdout and stderr.
    pub output_limit: u64,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Exit code; 128 + signal where a signal ended it, 124 where the time limit did.
    pub exit_code: i32,
    /// Whether the time limit ended it.
    pub timed_out: bool,
    /// Whether output past the limit was dropped.
    pub truncated: bool,
    /// Standard output, byte for byte.
    pub stdout: Bytes,
    /// Standard error, byte for byte.
    pub stderr: Bytes,
    /// From start to end, in the sandbox.
    pub duration: Duration,
}

/// Why there is no outcome.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExecError {
    /// The request is wrong as it stands; nothing was run.
    #[error("{0}")]
    Invalid(String),
    /// The sandbox cannot start it: no shell, no room for another process.
    #[error("the command could not be started: {0}")]
    CannotStart(String),
    /// The sandbox cannot be reached; nothing was handed over, so the command
    /// may be sent again.
    #[error("the sandbox cannot be reached: {0}")]
    Unreachable(String),
    /// The command was handed over and its outcome is not known: it may have
    /// run, and is never sent again.
    #[error("the command's outcome is lost: {0}")]
    Lost(String),
}

impl ExecError {
    /// A short name of the kind, for metrics and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::CannotStart(_) => "cannot_start",
            Self::Unreachable(_) => "unreachable",
            Self::Lost(_) => "lost",
        }
    }
}
