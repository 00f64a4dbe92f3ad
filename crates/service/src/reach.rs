//! From a target to an answer of its sandbox's agent.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::target::{Target, Whose};
use super::{Service, ServiceError};
use hutch_core::agent::AgentError;
use hutch_core::interfaces::PodRef;

/// How long a pod that cannot be reached is left alone when nothing changes.
const AGAIN: Duration = Duration::from_millis(250);

impl Service {
    /// Calls the agent of the sandbox that is meant, once it is awake. The sandbox
    /// counts as used until the call has ended. Where what a project names has gone,
    /// its next place is called instead, once.
    ///
    /// # Errors
    /// When no sandbox can be had in time, or the call's own.
    pub(super) async fn reach<T, F>(
        &self,
        target: &Target,
        call: impl Fn(PodRef) -> F,
    ) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let deadline = Instant::now() + self.settings.ready_timeout;
        match (
            self.reach_one(target, deadline, &call).await,
            &target.project,
        ) {
            (Err(ServiceError::Gone(_)), Some(project)) => {
                let place = self.place_of(project).await;
                self.reach_one(&place.target, deadline, &call).await
            }
            (answer, _) => answer,
        }
    }

    /// [`ServiceError::Gone`] only where nothing was handed over.
    async fn reach_one<T, F>(
        &self,
        target: &Target,
        deadline: Instant,
        call: &impl Fn(PodRef) -> F,
    ) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let guest = target.whose == Whose::Guest;
        let _use = (!guest).then(|| self.activity.begin(&target.name));
        loop {
            let mut changes = match guest {
                true => self.guests.changes(),
                false => self.sandboxes.changes(),
            };
            let pod = self.acquire(target, deadline).await?;
            match call(pod).await {
                // The cache may show a pod that has just gone: nothing was
                // handed over, so the next change is waited for.
                Err(AgentError::Unreachable(_)) if Instant::now() < deadline => {
                    let soon = deadline.min(Instant::now() + AGAIN);
                    let _ = timeout_at(soon, changes.changed()).await;
                }
                answer => return Ok(answer?),
            }
        }
    }
}
