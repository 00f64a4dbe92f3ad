//! Sessions of the sandbox that an id means. They live in its agent; the
//! resources that stand for them are written after the answer (`session_log`).

use std::collections::BTreeMap;

use super::{Service, ServiceError};
use crate::domain::interfaces::NewSession;

impl Service {
    /// Makes a session.
    ///
    /// # Errors
    /// [`Exists`](crate::domain::agent::AgentError::Exists) where there is one,
    /// or when no sandbox can be had in time.
    pub async fn open_session(&self, id: &str, session: NewSession) -> Result<(), ServiceError> {
        let name = self.name(id);
        let session = &session;
        let call = |pod| async move { self.agents.open(&pod, session.clone()).await };
        self.reach(id, &name, call).await?;
        self.session_log.changed(&name, &session.id);
        Ok(())
    }

    /// Ends a session with its running command; `default` begins anew.
    ///
    /// # Errors
    /// [`NotFound`](crate::domain::agent::AgentError::NotFound) where there is
    /// none, or when no sandbox can be had in time.
    pub async fn close_session(&self, id: &str, session: &str) -> Result<(), ServiceError> {
        let name = self.name(id);
        let call = |pod| async move { self.agents.close(&pod, session, None).await };
        self.reach(id, &name, call).await?;
        self.session_log.changed(&name, session);
        Ok(())
    }

    /// Sets exported variables of a session, after the commands before; returns
    /// whether the session was made for it.
    ///
    /// # Errors
    /// When no sandbox can be had in time, or too many commands wait.
    pub async fn set_session_variables(
        &self,
        id: &str,
        session: &str,
        env: BTreeMap<String, String>,
    ) -> Result<bool, ServiceError> {
        let name = self.name(id);
        let env = &env;
        let call = |pod| async move {
            let env = env.clone();
            self.agents.set_variables(&pod, session, env).await
        };
        let created = self.reach(id, &name, call).await?;
        self.session_log.changed(&name, session);
        Ok(created)
    }

    /// The ids of all sessions, `default` among them.
    ///
    /// # Errors
    /// When no sandbox can be had in time.
    pub async fn session_ids(&self, id: &str) -> Result<Vec<String>, ServiceError> {
        let name = self.name(id);
        let call = |pod| async move { self.agents.list(&pod).await };
        let sessions = self.reach(id, &name, call).await?;
        Ok(sessions.into_iter().map(|session| session.id).collect())
    }
}
