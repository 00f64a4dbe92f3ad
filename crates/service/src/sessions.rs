//! Sessions of a sandbox. They live in its agent. The SandboxSession resources that
//! represent them are written after the answer (`session_records`).

use std::collections::BTreeMap;

use super::target::Target;
use super::{Service, ServiceError};
use hutch_core::agent::AgentError;
use hutch_core::interfaces::{NewSession, PodRef};

impl Service {
    /// Opens a new session.
    ///
    /// # Errors
    /// [`Exists`](hutch_core::agent::AgentError::Exists) if there is a session of this
    /// ID, or an error if no sandbox is ready in time.
    pub async fn open_session(
        &self,
        target: &Target,
        session: NewSession,
    ) -> Result<(), ServiceError> {
        let session = &session;
        let call = |pod| async move { self.agents.open(&pod, session.clone()).await };
        self.session_log.changed(&target.name, &session.id);
        self.reach(target, call).await?;
        self.session_log.changed(&target.name, &session.id);
        Ok(())
    }

    /// Ends a session and its running command. The session `default` starts again
    /// with a fresh state.
    ///
    /// # Errors
    /// [`NotFound`](hutch_core::agent::AgentError::NotFound) if there is no such
    /// session, or an error if no sandbox is ready in time.
    pub async fn close_session(&self, target: &Target, session: &str) -> Result<(), ServiceError> {
        let call = |pod| async move { self.agents.close(&pod, session, None).await };
        let closed = self.reach(target, call).await;
        // Also after an error: the resource of an earlier session may be left.
        self.session_log.ended(&target.name, session);
        closed
    }

    /// Sets exported variables of a session, after its earlier commands have ended.
    /// Returns true if this call opened the session.
    ///
    /// # Errors
    /// If no sandbox is ready in time, or too many commands wait in the session.
    pub async fn set_session_variables(
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
        self.session_log.used(&target.name, session);
        let created = self.reach(target, call).await?;
        if created {
            self.session_log.changed(&target.name, session);
        }
        Ok(created)
    }

    /// Opens a session that a user applied as a resource, before its first use in
    /// this pod. So it starts with the directory and variables of its spec, even if a
    /// request uses it before the controller has opened it.
    pub(super) async fn open_applied(
        &self,
        pod: &PodRef,
        target: &Target,
        id: &str,
    ) -> Result<(), AgentError> {
        if self.session_log.is_open(&target.name, id, &pod.uid) {
            return Ok(());
        }
        if let Some(session) = self.session_records.find(&target.name, id)
            && (session.spec.cwd.is_some() || !session.spec.env.is_empty())
        {
            self.agents.open(pod, NewSession::applied(&session)).await?;
        }
        self.session_log.opened(&target.name, id, &pod.uid);
        Ok(())
    }

    /// The IDs of all sessions, `default` included.
    ///
    /// # Errors
    /// If no sandbox is ready in time.
    pub async fn session_ids(&self, target: &Target) -> Result<Vec<String>, ServiceError> {
        let call = |pod| async move { self.agents.list(&pod).await };
        let sessions = self.reach(target, call).await?;
        Ok(sessions.into_iter().map(|session| session.id).collect())
    }
}
