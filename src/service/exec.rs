//! Running a command in the sandbox that an id means.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Service, ServiceError};
use crate::domain::exec::{ExecError, ExecOutcome, ExecRequest};

/// How long a pod that cannot be reached is left alone when nothing changes.
const AGAIN: Duration = Duration::from_millis(250);

impl Service {
    /// Runs one command, once the sandbox is awake, and waits for its end.
    ///
    /// # Errors
    /// When no sandbox can be had in time, or the command has no outcome.
    pub async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecOutcome, ServiceError> {
        let name = self.name(id);
        let _use = self.activity.begin(&name);
        let deadline = Instant::now() + self.settings.ready_timeout;
        loop {
            let mut changes = self.sandboxes.changes();
            let pod = self.acquire(id, &name, deadline).await?;
            match self.agents.exec(&pod, request.clone()).await {
                // The cache may show a pod that has just gone: nothing was
                // handed over, so the next change is waited for.
                Err(ExecError::Unreachable(_)) if Instant::now() < deadline => {
                    let soon = deadline.min(Instant::now() + AGAIN);
                    let _ = timeout_at(soon, changes.changed()).await;
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Bytes kept of each of a command's stdout and stderr.
    pub fn max_output(&self) -> u64 {
        self.settings.max_output
    }
}
