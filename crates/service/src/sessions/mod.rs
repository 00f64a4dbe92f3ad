//! Sessions of a sandbox. They live in its agent. The SandboxSession resources that
//! represent them are written after the answer (`records`).

mod log;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::target::Target;
use crate::{Acquirer, ServiceError};
use hutch_core::agent::AgentError;
use hutch_core::interfaces::{self, NewSession, PodRef, Sandboxes, SessionRecords};
use log::SessionLog;

/// The sessions of sandboxes and their SandboxSession resources.
pub struct Sessions {
    acquirer: Arc<Acquirer>,
    sandboxes: Arc<dyn Sandboxes>,
    agents: Arc<dyn interfaces::Sessions>,
    records: Arc<dyn SessionRecords>,
    log: SessionLog,
}

impl Sessions {
    /// Makes this part over the sandboxes of one namespace. `sandboxes` and `records` are
    /// those of that namespace.
    pub fn new(
        acquirer: Arc<Acquirer>,
        sandboxes: Arc<dyn Sandboxes>,
        agents: Arc<dyn interfaces::Sessions>,
        records: Arc<dyn SessionRecords>,
    ) -> Self {
        Self {
            acquirer,
            sandboxes,
            agents,
            records,
            log: SessionLog::default(),
        }
    }

    /// Opens a new session.
    ///
    /// # Errors
    /// [`Exists`](hutch_core::agent::AgentError::Exists) if there is a session of this
    /// ID, or an error if no sandbox is ready in time.
    pub async fn open(&self, target: &Target, session: NewSession) -> Result<(), ServiceError> {
        let session = &session;
        let call = |pod| async move { self.agents.open(&pod, session.clone()).await };
        self.log.changed(&target.name, &session.id);
        self.acquirer.reach(target, call).await?;
        self.log.changed(&target.name, &session.id);
        Ok(())
    }

    /// Ends a session and its running command. The session `default` starts again
    /// with a fresh state.
    ///
    /// # Errors
    /// [`NotFound`](hutch_core::agent::AgentError::NotFound) if there is no such
    /// session, or an error if no sandbox is ready in time.
    pub async fn close(&self, target: &Target, session: &str) -> Result<(), ServiceError> {
        let call = |pod| async move { self.agents.close(&pod, session, None).await };
        let closed = self.acquirer.reach(target, call).await;
        // Also after an error: the resource of an earlier session may be left.
        self.log.ended(&target.name, session);
        closed
    }

    /// Sets exported variables of a session, after its earlier commands have ended.
    /// Returns true if this call opened the session.
    ///
    /// # Errors
    /// If no sandbox is ready in time, or too many commands wait in the session.
    pub async fn set_variables(
        &self,
        target: &Target,
        session: &str,
        env: BTreeMap<String, String>,
    ) -> Result<bool, ServiceError> {
        let env = &env;
        let call = |pod| async move {
            self.open_applied(&pod, target, session).await?;
            let env = env.clone();
            self.agents.set_variables(&pod, session, env).await
        };
        self.log.used(&target.name, session);
        let created = self.acquirer.reach(target, call).await?;
        if created {
            self.log.changed(&target.name, session);
        }
        Ok(created)
    }

    /// Opens a session that a user applied as a resource, before its first use in
    /// this pod. So it starts with the directory and variables of its spec, even if a
    /// request uses it before the controller has opened it.
    pub(crate) async fn open_applied(
        &self,
        pod: &PodRef,
        target: &Target,
        id: &str,
    ) -> Result<(), AgentError> {
        if self.log.is_open(&target.name, id, &pod.uid) {
            return Ok(());
        }
        if let Some(session) = self.records.find(&target.name, id)
            && (session.spec.cwd.is_some() || !session.spec.env.is_empty())
        {
            self.agents.open(pod, NewSession::applied(&session)).await?;
        }
        self.log.opened(&target.name, id, &pod.uid);
        Ok(())
    }

    /// The current directory of a session. If there is no such session: empty, which
    /// means the workspace.
    pub(crate) async fn directory(
        &self,
        pod: &PodRef,
        target: &Target,
        id: &str,
    ) -> Result<Bytes, AgentError> {
        self.open_applied(pod, target, id).await?;
        let session = self.agents.state(pod, id).await?;
        Ok(session.map(|session| session.cwd).unwrap_or_default())
    }

    /// Notes that a request uses a session, so that its resource is written.
    pub(crate) fn note_use(&self, target: &Target, id: &str) {
        self.log.used(&target.name, id);
    }

    /// Notes that a request has opened a session, so that its resource is written.
    pub(crate) fn note_opened(&self, target: &Target, id: &str) {
        self.log.changed(&target.name, id);
    }

    /// The IDs of all sessions, `default` included.
    ///
    /// # Errors
    /// If no sandbox is ready in time.
    pub async fn ids(&self, target: &Target) -> Result<Vec<String>, ServiceError> {
        let call = |pod| async move { self.agents.list(&pod).await };
        let sessions = self.acquirer.reach(target, call).await?;
        Ok(sessions.into_iter().map(|session| session.id).collect())
    }
}

#[cfg(test)]
mod tests;
