//! What it means to run a command in a sandbox: the request and the outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

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
    /// The session that runs it, made where there is none. Unset: no session.
    pub session: Option<String>,
    /// Working directory. Unset: the session's, or the workspace.
    pub cwd: Option<String>,
    /// Environment of this command alone, on top of the sandbox's.
    pub env: BTreeMap<String, String>,
    /// When it passes, the whole process group is killed.
    pub timeout: Option<Duration>,
    /// Bytes kept of each of stdout and stderr.
    pub output_limit: u64,
}

impl ExecRequest {
    /// A script with nothing of its own.
    pub fn script(script: &str, output_limit: u64) -> Self {
        Self {
            program: Program::Script(script.to_owned().into()),
            session: None,
            cwd: None,
            env: BTreeMap::new(),
            timeout: None,
            output_limit,
        }
    }
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
    /// What became of its session; nothing without one.
    pub session: SessionOutcome,
}

/// What a command did to its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionOutcome {
    /// The session was made for the command.
    pub created: bool,
    /// The command's shell left no state: that from before the command stays.
    pub reset: bool,
    /// The session was closed meanwhile, which ended the command.
    pub closed: bool,
}
