//! The record of sessions: brings the SandboxSession resources in line with the
//! sessions that the agents have. What happens to a session is noted here as it
//! is answered, and written a moment later: nobody waits for it, a session that
//! lives for a moment leaves no trace, and one that is used all the time is
//! written about every 30 s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Service;
use crate::crd::Sandbox;
use crate::domain::agent::AgentError;
use crate::domain::interfaces::{PodRef, ResourceError, SessionRecord, SessionState};

/// How long a change waits for others of the same session.
const SOON: Duration = Duration::from_millis(100);
/// How often a session is written about at most while it is only used.
const EVERY: Duration = Duration::from_secs(30);
/// When what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Sessions by sandbox and id.
type Entries = HashMap<String, HashMap<String, Entry>>;

/// What is to be written, and when.
#[derive(Default)]
pub struct SessionLog(Mutex<Entries>);

#[derive(Default)]
struct Entry {
    due: Option<Instant>,
    recorded: Option<Instant>,
}

impl SessionLog {
    /// A session was made, or ended, or moved.
    pub fn changed(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |_| Instant::now() + SOON);
    }

    /// A session was used.
    pub fn used(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |entry| {
            let soon = Instant::now() + SOON;
            let next = entry.recorded.map(|recorded| recorded + EVERY);
            next.map_or(soon, |next| next.max(soon))
        });
    }

    fn note(&self, sandbox: &str, id: &str, due: impl Fn(&Entry) -> Instant) {
        let mut all = self.lock();
        if !all.contains_key(sandbox) {
            all.insert(sandbox.to_owned(), HashMap::new());
        }
        let Some(sessions) = all.get_mut(sandbox) else {
            return;
        };
        if !sessions.contains_key(id) {
            sessions.insert(id.to_owned(), Entry::default());
        }
        if let Some(entry) = sessions.get_mut(id) {
            let due = due(entry);
            entry.due = Some(entry.due.map_or(due, |old| old.min(due)));
        }
    }

    /// Takes what is due; an entry that says nothing any more goes.
    fn due(&self) -> Vec<(String, Vec<String>)> {
        let now = Instant::now();
        let mut all = self.lock();
        let mut taken = Vec::new();
        for (sandbox, sessions) in all.iter_mut() {
            sessions.retain(|_, entry| {
                let fresh = |at: Instant| at.elapsed() < EVERY;
                entry.due.is_some() || entry.recorded.is_some_and(fresh)
            });
            let due = sessions
                .iter_mut()
                .filter_map(|(id, entry)| entry.due.take_if(|due| *due <= now).map(|_| id.clone()));
            let due: Vec<_> = due.collect();
            if !due.is_empty() {
                taken.push((sandbox.clone(), due));
            }
        }
        all.retain(|_, sessions| !sessions.is_empty());
        taken
    }

    fn set(&self, sandbox: &str, id: &str, entry: impl FnOnce(&mut Entry)) {
        if let Some(found) = self.lock().get_mut(sandbox).and_then(|all| all.get_mut(id)) {
            entry(found);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of writing about one session.
enum Written {
    Done,
    Later,
}

impl Service {
    /// Writes about sessions for as long as it is polled.
    pub async fn record_sessions(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SOON);
        loop {
            ticks.tick().await;
            for (name, ids) in self.session_log.due() {
                self.record_due(&name, &ids).await;
            }
        }
    }

    async fn record_due(&self, name: &str, ids: &[String]) {
        let Some(sandbox) = self.sandboxes.get(name) else {
            // Its resources go with it.
            return;
        };
        let states = match PodRef::ready(&sandbox) {
            Some(pod) => self.states(&pod, ids).await,
            None => Err(AgentError::Unreachable("the sandbox sleeps".to_owned())),
        };
        for id in ids {
            let written = match &states {
                Ok(states) => {
                    let state = states.iter().find(|state| state.id == *id);
                    self.record_session(&sandbox, name, id, state).await
                }
                Err(_) => Ok(Written::Later),
            };
            match written {
                Ok(Written::Done) => self.session_log.set(name, id, |entry| {
                    entry.recorded = Some(Instant::now());
                }),
                Ok(Written::Later) => self.record_later(name, id),
                Err(error) => {
                    tracing::warn!(sandbox = name, session = id, %error, "a session was not recorded");
                    self.record_later(name, id);
                }
            }
        }
    }

    fn record_later(&self, name: &str, id: &str) {
        self.session_log.set(name, id, |entry| {
            entry.due.get_or_insert_with(|| Instant::now() + AGAIN);
        });
    }

    async fn states(&self, pod: &PodRef, ids: &[String]) -> Result<Vec<SessionState>, AgentError> {
        match ids {
            [id] => Ok(self.agents.find(pod, id).await?.into_iter().collect()),
            _ => self.agents.list(pod).await,
        }
    }

    async fn record_session(
        &self,
        sandbox: &Sandbox,
        name: &str,
        id: &str,
        state: Option<&SessionState>,
    ) -> Result<Written, ResourceError> {
        let known = self.session_records.find(name, id);
        let session = match (state, known) {
            (None, None) => return Ok(Written::Done),
            (None, Some(session)) => {
                self.session_records.delete(&session).await?;
                return Ok(Written::Done);
            }
            (Some(_), Some(session)) => session,
            // Its resource was deleted, and so it will be.
            (Some(state), None) if state.owner.is_some() => return Ok(Written::Later),
            (Some(_), None) => match self.session_records.create(sandbox, id).await? {
                Some(session) => Arc::new(session),
                None => return Ok(Written::Later),
            },
        };
        if let Some(state) = state {
            let idle = SignedDuration::try_from(state.idle).unwrap_or_default();
            let record = SessionRecord {
                cwd: String::from_utf8_lossy(&state.cwd).into_owned(),
                used: Timestamp::now() - idle,
            };
            self.session_records.record(&session, &record).await?;
        }
        Ok(Written::Done)
    }
}
