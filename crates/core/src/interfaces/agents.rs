//! The agents in the pods: commands, sessions, files and searches. A call that does not reach
//! its agent has no effect. A call whose answer is lost may have had its effect.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::PodRef;
use crate::agent::AgentError;
use crate::exec::{ExecOutcome, ExecRequest};
use crate::files::{FileKind, FilePath};
use crate::search::{SearchLimits, SearchOutput, Tree, TreeLimits};
use hutch_api::SandboxSession;

/// The activity in a sandbox, as its agent reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Number of running commands.
    pub running: u32,
    /// Number of processes that have outlived their command.
    pub background: u32,
    /// Time since the last start or end of a command.
    pub idle: Duration,
}

/// All calls of an agent.
pub trait Agents: Commands + Sessions + Files + Search {}

impl<T: Commands + Sessions + Files + Search> Agents for T {}

/// Calls that run commands.
pub trait Commands: Send + Sync {
    /// Runs one command and waits for its end. It runs at most once: an error after the agent
    /// got it is [`AgentError::Lost`].
    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, AgentError>>;

    /// The activity in that pod. `None` if it is unknown, for instance because no channel to
    /// the pod is open. This call opens none.
    fn activity<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Option<Activity>>;
}

/// A session to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSession {
    /// The ID that clients use.
    pub id: String,
    /// First working directory. `None`: the workspace.
    pub cwd: Option<String>,
    /// First variables, in addition to the sandbox's.
    pub env: BTreeMap<String, String>,
    /// Name of the session's SandboxSession, if it has one. An existing session then gets
    /// this owner, and is no error.
    pub owner: Option<String>,
    /// If true, no session is opened: [`AgentError::NotFound`] if it does not exist.
    pub existing: bool,
}

impl NewSession {
    /// The session of a SandboxSession, which becomes its owner.
    pub fn applied(session: &SandboxSession) -> Self {
        let env = session.spec.env.iter();
        Self {
            id: session.spec.id.clone(),
            cwd: session.spec.cwd.clone(),
            env: env
                .map(|variable| (variable.name.clone(), variable.value.clone()))
                .collect(),
            owner: session.owner_name(),
            existing: false,
        }
    }
}

/// A session, as its agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The ID that clients use.
    pub id: String,
    /// Its working directory, in the form of the kernel.
    pub cwd: Bytes,
    /// Time since the last start or end of one of its commands.
    pub idle: Duration,
    /// Name of its SandboxSession, if it has one.
    pub owner: Option<String>,
}

/// Calls about sessions.
pub trait Sessions: Send + Sync {
    /// Opens a session. [`AgentError::Exists`] if it exists.
    fn open<'a>(
        &'a self,
        pod: &'a PodRef,
        session: NewSession,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Ends a session and its command. With an `owner`, only a session of that owner.
    /// [`AgentError::NotFound`] if there is none. The session `default` starts again, empty.
    fn close<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        owner: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Sets exported variables after the session's earlier commands. Returns true if the
    /// session was opened for it.
    fn set_variables<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        env: BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<bool, AgentError>>;

    /// All sessions, with `default`.
    fn list<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Vec<SessionState>, AgentError>>;

    /// One session, if it exists.
    fn state<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SessionState>, AgentError>>;
}

/// Calls about files.
pub trait Files: Send + Sync {
    /// The content of a regular file. [`AgentError::Full`] if it has more than `limit` bytes.
    fn read<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, AgentError>>;

    /// Creates or replaces a file atomically. Missing parents are created.
    fn write<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        content: Bytes,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Creates a directory. If `recursive` is true, missing parents are created and an
    /// existing directory is no error.
    fn make_directory<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        recursive: bool,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Moves a file or directory to another path.
    fn rename<'a>(
        &'a self,
        pod: &'a PodRef,
        from: &'a FilePath,
        to: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Deletes a file that is no directory.
    fn delete<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// The kind of file at a path. Symbolic links are followed.
    fn stat<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<FileKind, AgentError>>;

    /// The names in a directory without `.` and `..`, in no particular order.
    fn list_directory<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, AgentError>>;
}

/// Calls that search files. The agent searches by itself, without a shell or a program of the
/// sandbox, so patterns and paths need no quoting.
pub trait Search: Send + Sync {
    /// The output of `grep -r PATTERN PATH`, with its messages about the pattern or the path.
    /// [`AgentError::Invalid`] if the pattern is too long or contains a NUL.
    fn grep<'a>(
        &'a self,
        pod: &'a PodRef,
        pattern: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>>;

    /// The sorted output of `find PATH -name NAME`. Errors as for `grep`.
    fn glob<'a>(
        &'a self,
        pod: &'a PodRef,
        name: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>>;

    /// A directory and everything below it, without hidden entries, `node_modules` and
    /// `__pycache__`. [`AgentError::NotFound`] if the path does not exist.
    fn tree<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        limits: TreeLimits,
    ) -> BoxFuture<'a, Result<Tree, AgentError>>;
}
