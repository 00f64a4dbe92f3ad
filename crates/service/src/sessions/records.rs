//! Keeps the SandboxSession resources equal to the sessions that the agents have. The
//! writes happen a moment after a change, so no request waits for them and a session
//! that lives for a moment leaves no resource. A session that is used all the time is
//! written every 30 s. Sandboxes do not wait for each other.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::Sessions;
use super::log::{BATCH_DELAY, Due};
use crate::periodic::run_periodically;
use hutch_api::{MANAGED_BY, Sandbox, SandboxSession, labels};
use hutch_core::agent::AgentError;
use hutch_core::conditions;
use hutch_core::interfaces::{PodRef, ResourceError, SessionRecord, SessionState};

/// How long an agent may take to list its sessions, and a write of one resource.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

impl Sessions {
    /// Writes the resources of sessions for as long as it is polled. Run it once.
    pub async fn run_recorder(&self) {
        run_periodically(
            BATCH_DELAY,
            |busy, room| self.log.due(busy, room),
            |name, due| async move { self.record_due(&name, &due).await },
        )
        .await;
    }

    async fn record_due(&self, name: &str, due: &[Due]) {
        let Some(sandbox) = self.sandboxes.get(name) else {
            // The resources of its sessions are deleted with it.
            return;
        };
        // Read the cache before the agent: the agent's answer is then the newer one.
        let known: Vec<_> = due
            .iter()
            .map(|due| self.records.find(name, &due.id))
            .collect();
        let states = match PodRef::ready(&sandbox) {
            Some(pod) => timeout(STEP_TIMEOUT, self.states(&pod, due)).await,
            None => Ok(Err(AgentError::Unreachable("it sleeps".to_owned()))),
        };
        let Ok(Ok(states)) = states else {
            return due.iter().for_each(|due| self.log.retry(name, due));
        };
        for (due, known) in due.iter().zip(known) {
            let state = states.iter().find(|state| state.id == due.id);
            let record = self.record_session(&sandbox, due, state, known);
            match timeout(STEP_TIMEOUT, record).await {
                Ok(Ok(true)) => self.log.written(name, &due.id),
                Ok(Ok(false)) | Err(_) => self.log.retry(name, due),
                Ok(Err(error)) => {
                    tracing::warn!(sandbox = name, session = due.id, %error, "a session was not recorded");
                    self.log.retry(name, due);
                }
            }
        }
    }

    async fn states(&self, pod: &PodRef, due: &[Due]) -> Result<Vec<SessionState>, AgentError> {
        match due {
            [due] => Ok(self.agents.state(pod, &due.id).await?.into_iter().collect()),
            _ => self.agents.list(pod).await,
        }
    }

    /// Writes the resource of one session. Returns false if it has to be tried again.
    async fn record_session(
        &self,
        sandbox: &Sandbox,
        due: &Due,
        state: Option<&SessionState>,
        known: Option<Arc<SandboxSession>>,
    ) -> Result<bool, ResourceError> {
        let (state, session) = match (state, known) {
            (None, None) => return Ok(true),
            (None, Some(session)) => {
                // The session is gone, and so is its resource. Only one that a user
                // applied stays, unless a request ended the session: the controller
                // opens it again.
                if due.ended || created_by_hutch(&session) {
                    self.records.delete(&session).await?;
                }
                return Ok(true);
            }
            // The resource represented an earlier session of this ID, which has ended.
            (Some(state), Some(session)) if state.owner.is_none() && is_open(&session) => {
                self.records.delete(&session).await?;
                return Ok(false);
            }
            (Some(state), Some(session)) => (state, session),
            // Somebody deleted its resource: the controller will end the session.
            (Some(state), None) if state.owner.is_some() => return Ok(false),
            (Some(state), None) => match self.records.create(sandbox, &due.id).await? {
                Some(session) => (state, Arc::new(session)),
                None => return Ok(false),
            },
        };
        let now = Timestamp::now();
        let idle = SignedDuration::try_from(state.idle).unwrap_or_default();
        let record = SessionRecord {
            cwd: String::from_utf8_lossy(&state.cwd).into_owned(),
            used: now.checked_sub(idle).unwrap_or(now),
        };
        self.records.record(&session, &record).await?;
        Ok(true)
    }
}

fn created_by_hutch(session: &SandboxSession) -> bool {
    let labels = session.metadata.labels.as_ref();
    let maker = labels.and_then(|labels| labels.get(labels::MANAGED_BY));
    maker.is_some_and(|maker| maker == MANAGED_BY)
}

/// True if the controller has bound the resource to a session.
fn is_open(session: &SandboxSession) -> bool {
    let status = session.status.as_ref();
    status.is_some_and(|status| conditions::holds(&status.conditions, conditions::READY))
}
