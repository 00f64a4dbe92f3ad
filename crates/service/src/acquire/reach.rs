//! Calls the agent of a target, once its sandbox is awake.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Acquirer;
use crate::ServiceError;
use crate::target::{Owner, Target};
use hutch_core::agent::AgentError;
use hutch_core::interfaces::PodRef;

/// How long to wait before a pod that could not be reached is called again. A change
/// in the cache ends the wait earlier.
const RETRY_DELAY: Duration = Duration::from_millis(250);

impl Acquirer {
    /// Calls the agent of the target, once its sandbox is awake. The sandbox counts as
    /// used until the call ends. If the sandbox or pod that a project names is gone,
    /// the project's next place is looked up and called, once.
    ///
    /// # Errors
    /// If no sandbox is ready in time, or the error of the call.
    pub(crate) async fn reach<T, F>(
        &self,
        target: &Target,
        call: impl Fn(PodRef) -> F,
    ) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let deadline = Instant::now() + self.ready_timeout;
        match (
            self.reach_one(target, deadline, &call).await,
            &target.project,
        ) {
            (Err(ServiceError::Gone(_)), Some(project)) => {
                let place = self.places.of(project).await;
                self.reach_one(&place.target, deadline, &call).await
            }
            (answer, _) => answer,
        }
    }

    /// It returns [`ServiceError::Gone`] only if no call was handed to an agent, so the
    /// caller may try another target.
    async fn reach_one<T, F>(
        &self,
        target: &Target,
        deadline: Instant,
        call: &impl Fn(PodRef) -> F,
    ) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let attached = target.owner == Owner::AttachedPod;
        let _use = (!attached).then(|| self.activity.begin(&target.name));
        loop {
            let mut changes = if attached {
                self.attached_pods.changes()
            } else {
                self.sandboxes.changes()
            };
            let pod = self.acquire(target, deadline).await?;
            match call(pod).await {
                // The cache may still show a pod that has just gone. The agent has
                // got nothing, so the call is safe to repeat after the next change.
                Err(AgentError::Unreachable(_)) if Instant::now() < deadline => {
                    let soon = deadline.min(Instant::now() + RETRY_DELAY);
                    let _ = timeout_at(soon, changes.changed()).await;
                }
                answer => return Ok(answer?),
            }
        }
    }
}
