//! Running a command in a sandbox.

use super::target::Target;
use super::{Service, ServiceError};
use hutch_core::exec::{ExecOutcome, ExecRequest};

impl Service {
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
                self.open_applied(&pod, target, session).await?;
            }
            self.agents.exec(&pod, request.clone()).await
        };
        if let Some(session) = session {
            self.session_log.used(&target.name, session);
        }
        let outcome = self.reach(target, call).await?;
        if let Some(session) = session.filter(|_| outcome.session.created) {
            self.session_log.changed(&target.name, session);
        }
        Ok(outcome)
    }

    /// The bytes that are kept of a command's stdout, and as many of its stderr.
    pub fn max_output(&self) -> u64 {
        self.settings.max_output
    }
}
