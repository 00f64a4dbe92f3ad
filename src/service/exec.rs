//! Running a command in the sandbox that an id means.

use super::{Service, ServiceError};
use crate::domain::exec::{ExecOutcome, ExecRequest};

impl Service {
    /// Runs one command, once the sandbox is awake, and waits for its end.
    ///
    /// # Errors
    /// When no sandbox can be had in time, or the command has no outcome.
    pub async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecOutcome, ServiceError> {
        let name = self.name(id);
        let request = &request;
        let call = |pod| async move { self.agents.exec(&pod, request.clone()).await };
        let outcome = self.reach(id, &name, call).await?;
        if let Some(session) = &request.session {
            if outcome.session.created {
                self.session_log.changed(&name, session);
            } else {
                self.session_log.used(&name, session);
            }
        }
        Ok(outcome)
    }

    /// Bytes kept of each of a command's stdout and stderr.
    pub fn max_output(&self) -> u64 {
        self.settings.max_output
    }
}
