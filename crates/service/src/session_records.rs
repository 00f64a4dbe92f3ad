//! Brings the SandboxSession resources in line with the sessions that the agents
//! have, a moment after something happened to them: nobody waits for it, a session
//! that lives for a moment leaves no trace, and one that is used all the time is
//! written about every 30 s. Sandboxes do not wait for each other.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::Service;
use super::rounds::rounds;
use super::session_log::{Due, SOON};
use hutch_api::{MANAGED_BY, Sandbox, SandboxSession, labels};
use hutch_core::agent::AgentError;
use hutch_core::conditions;
use hutch_core::interfaces::{PodRef, ResourceError, SessionRecord, SessionState};

/// How long writing about one sandbox's sessions may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Service {
    /// Writes about sessions for as long as it is polled.
    pub async fn record_sessions(self: Arc<Self>) {
        let service = &self;
        rounds(
            SOON,
            |busy, room| service.session_log.due(busy, room),
            |name, due| async move { service.record_due(&name, &due).await },
        )
        .await;
    }

    async fn record_due(&self, name: &str, due: &[Due]) {
        let Some(sandbox) = self.sandboxes.get(name) else {
            // Its resources go with it.
            return;
        };
        // Before the agent is asked: what they say is then no older than this.
        let known: Vec<_> = due
            .iter()
            .map(|due| self.session_records.find(name, &due.id))
            .collect();
        let states = match PodRef::ready(&sandbox) {
            Some(pod) => timeout(PATIENCE, self.states(&pod, due)).await,
            None => Ok(Err(AgentError::Unreachable("it sleeps".to_owned()))),
        };
        let Ok(Ok(states)) = states else {
            return due.iter().for_each(|due| self.session_log.again(name, due));
        };
        for (due, known) in due.iter().zip(known) {
            let state = states.iter().find(|state| state.id == due.id);
            let record = self.record_session(&sandbox, due, state, known);
            match timeout(PATIENCE, record).await {
                Ok(Ok(true)) => self.session_log.written(name, &due.id),
                Ok(Ok(false)) | Err(_) => self.session_log.again(name, due),
                Ok(Err(error)) => {
                    tracing::warn!(sandbox = name, session = due.id, %error, "a session was not recorded");
                    self.session_log.again(name, due);
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

    /// Writes about one session; `false` where it has to be looked at again.
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
                // One that a person applied is opened anew where it got lost.
                if due.ended || made_by_us(&session) {
                    self.session_records.delete(&session).await?;
                }
                return Ok(true);
            }
            // The resource stood for a session that has ended since.
            (Some(state), Some(session)) if state.owner.is_none() && is_open(&session) => {
                self.session_records.delete(&session).await?;
                return Ok(false);
            }
            (Some(state), Some(session)) => (state, session),
            // Its resource was deleted, and so it will be.
            (Some(state), None) if state.owner.is_some() => return Ok(false),
            (Some(state), None) => match self.session_records.create(sandbox, &due.id).await? {
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
        self.session_records.record(&session, &record).await?;
        Ok(true)
    }
}

fn made_by_us(session: &SandboxSession) -> bool {
    let labels = session.metadata.labels.as_ref();
    let maker = labels.and_then(|labels| labels.get(labels::MANAGED_BY));
    maker.is_some_and(|maker| maker == MANAGED_BY)
}

/// Whether the controller has bound it to a session.
fn is_open(session: &SandboxSession) -> bool {
    let status = session.status.as_ref();
    status.is_some_and(|status| conditions::holds(&status.conditions, conditions::READY))
}
