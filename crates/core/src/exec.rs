//! A command in a sandbox: the request and the outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

pub use hutch_api::MAX_SESSION_ID_BYTES;

/// The program of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments, without a shell.
    Argv(Vec<String>),
    /// A shell script. It reaches the shell unchanged.
    Script(Bytes),
}

/// One command and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program or script.
    pub program: Program,
    /// The session that runs it, which is created if it does not exist. `None`: no session.
    pub session: Option<String>,
    /// Working directory. `None`: the session's, or the workspace.
    pub cwd: Option<String>,
    /// Variables of this command only, in addition to the sandbox's.
    pub env: BTreeMap<String, String>,
    /// When it passes, the process group is killed.
    pub timeout: Option<Duration>,
    /// Most bytes that are kept of stdout, and of stderr.
    pub output_limit: u64,
}

impl ExecRequest {
    /// A script outside of any session, without variables and timeout.
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
    /// Exit code. 128 + signal if a signal ended it, 124 if the timeout did.
    pub exit_code: i32,
    /// True if the timeout ended it.
    pub timed_out: bool,
    /// True if output beyond the limit was dropped.
    pub truncated: bool,
    /// Standard output, byte for byte.
    pub stdout: Bytes,
    /// Standard error, byte for byte.
    pub stderr: Bytes,
    /// Time from start to end, measured in the sandbox.
    pub duration: Duration,
    /// The effect on its session. Default without a session.
    pub session: SessionOutcome,
}

/// The effect of a command on its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionOutcome {
    /// The session was created for the command.
    pub created: bool,
    /// The command's shell left no state. The session keeps the state from before.
    pub reset: bool,
    /// The session was closed while the command ran, which ended the command.
    pub closed: bool,
}
