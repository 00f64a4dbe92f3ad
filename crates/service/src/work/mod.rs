//! Work in a sandbox: commands, files and searches. Each call first acquires a pod of its
//! target.

mod edit;
mod files;
mod runner;
mod search;

use std::sync::Arc;

use crate::target::Target;
use crate::{Acquirer, ServiceError, Sessions};
use hutch_core::exec::{ExecOutcome, ExecRequest};
use hutch_core::interfaces::Agents;
use hutch_core::sync::KeyedMutex;

pub use edit::{EditError, Occurrences};
pub use files::{Base, ClientPath};
pub use search::SearchKind;

/// The limits of commands and files.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The bytes that are kept of a command's stdout, and as many of its stderr.
    pub max_output: u64,
    /// The size in bytes of the largest file that can be read.
    pub max_file: u64,
}

/// Runs commands and file requests in the sandboxes of one namespace.
pub struct Work {
    acquirer: Arc<Acquirer>,
    sessions: Arc<Sessions>,
    agents: Arc<dyn Agents>,
    /// The limits of commands and files.
    pub limits: Limits,
    /// One lock per sandbox: edits of files run one after another.
    edits: KeyedMutex<String>,
}

impl Work {
    /// Makes this part over the sandboxes of one namespace.
    pub fn new(
        acquirer: Arc<Acquirer>,
        sessions: Arc<Sessions>,
        agents: Arc<dyn Agents>,
        limits: Limits,
    ) -> Self {
        Self {
            acquirer,
            sessions,
            agents,
            limits,
            edits: KeyedMutex::default(),
        }
    }

    /// Runs one command, once the sandbox is awake, and waits for its end.
    ///
    /// # Errors
    /// If no sandbox is ready in time, or the outcome of the command is unknown.
    pub async fn exec(
        &self,
        target: &Target,
        request: ExecRequest,
    ) -> Result<ExecOutcome, ServiceError> {
        let request = &request;
        let session = request.session.as_deref();
        let call = |pod| async move {
            if let Some(session) = session {
                self.sessions.open_applied(&pod, target, session).await?;
            }
            self.agents.exec(&pod, request.clone()).await
        };
        if let Some(session) = session {
            self.sessions.note_use(target, session);
        }
        let outcome = self.acquirer.reach(target, call).await?;
        if let Some(session) = session.filter(|_| outcome.session.created) {
            self.sessions.note_opened(target, session);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests;
