//! The agents in the sandboxes' pods: commands, sessions, files and searches. A
//! call that cannot reach its agent has had no effect; one whose answer is lost
//! may have.

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

/// What is going on in a sandbox, as its agent tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Commands that have not ended.
    pub running: u32,
    /// Processes that outlived their command.
    pub background: u32,
    /// Since the last command started or ended.
    pub idle: Duration,
}

/// Everything that agents do.
pub trait Agents: Commands + Sessions + Files + Search {}

impl<T: Commands + Sessions + Files + Search> Agents for T {}

/// Running commands.
pub trait Commands: Send + Sync {
    /// Runs one command and waits for its end. It runs at most once: an error
    /// after it was handed over is [`AgentError::Lost`].
    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, AgentError>>;

    /// What is going on in that pod; `None` where it cannot be told. Does not
    /// open a channel that is not open.
    fn activity<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Option<Activity>>;
}

/// A session to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSession {
    /// The id that clients call it by.
    pub id: String,
    /// First working directory. Unset: the workspace.
    pub cwd: Option<String>,
    /// First environment, on top of the sandbox's.
    pub env: BTreeMap<String, String>,
    /// Name of the resource that stands for it, if one does. With it, a session
    /// that exists is given this owner and is no error.
    pub owner: Option<String>,
    /// Make none: [`AgentError::NotFound`] where there is no such session.
    pub existing: bool,
}

impl NewSession {
    /// The session that a resource describes, which becomes its owner.
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

/// A session, as its agent tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The id that clients call it by.
    pub id: String,
    /// Its working directory, as the kernel has it.
    pub cwd: Bytes,
    /// Since a command of it started or ended.
    pub idle: Duration,
    /// Name of the resource that stands for it, if one does.
    pub owner: Option<String>,
}

/// Sessions: a shell's state from command to command.
pub trait Sessions: Send + Sync {
    /// Makes a session; [`AgentError::Exists`] where there is one.
    fn open<'a>(
        &'a self,
        pod: &'a PodRef,
        session: NewSession,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Ends a session and its command; with `owner` only if it is that owner's.
    /// [`AgentError::NotFound`] where there is none. `default` begins anew.
    fn close<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        owner: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Sets exported variables in the order of the session's commands, and
    /// returns whether the session was made for it.
    fn set_variables<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        env: BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<bool, AgentError>>;

    /// All sessions, `default` among them.
    fn list<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Vec<SessionState>, AgentError>>;

    /// One session, if it exists.
    fn state<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SessionState>, AgentError>>;
}

/// Files of a sandbox.
pub trait Files: Send + Sync {
    /// The bytes of a regular file; [`AgentError::Full`] past `limit` bytes.
    fn read<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, AgentError>>;

    /// Makes or replaces a file, wholly or not at all; parents are made.
    fn write<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        content: Bytes,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Makes a folder; with `recursive` its parents too, and one that exists is
    /// no error.
    fn make_folder<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        recursive: bool,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Gives a file or folder another path.
    fn rename<'a>(
        &'a self,
        pod: &'a PodRef,
        from: &'a FilePath,
        to: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// Deletes one name that is no folder.
    fn delete<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>>;

    /// What is at a path, symbolic links followed.
    fn stat<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<FileKind, AgentError>>;

    /// The names in a folder without `.` and `..`, in no particular order, as
    /// the kernel has them.
    fn list_folder<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, AgentError>>;
}

/// Searches in the files of a sandbox. No shell and no program of the sandbox
/// has a part in them: patterns and paths are what they are.
pub trait Search: Send + Sync {
    /// What `grep -r PATTERN PATH` would print; trouble with the pattern or the
    /// path is part of that. [`AgentError::Invalid`] for a pattern that is too
    /// long or holds a NUL.
    fn grep<'a>(
        &'a self,
        pod: &'a PodRef,
        pattern: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>>;

    /// What `find PATH -name NAME` would print, sorted; errors as with `grep`.
    fn glob<'a>(
        &'a self,
        pod: &'a PodRef,
        name: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>>;

    /// A folder and all below it, without hidden entries, `node_modules` and
    /// `__pycache__`. [`AgentError::NotFound`] where nothing is at the path.
    fn tree<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        limits: TreeLimits,
    ) -> BoxFuture<'a, Result<Tree, AgentError>>;
}
