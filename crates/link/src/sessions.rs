//! The agents' sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use hutch_wire::limits::{MAX_OWNER, MAX_PATH, MAX_SESSION_ID, MAX_SESSIONS};
use hutch_wire::v1;

use super::call::answer;
use super::pool::Pool;
use hutch_core::agent::AgentError;
use hutch_core::interfaces::{NewSession, PodRef, SessionState, Sessions};

/// How long a call may take that waits for nothing.
const ASK: Duration = Duration::from_secs(10);
/// How long one may take that waits for the session's commands: clients have
/// given up by then.
const QUEUE: Duration = Duration::from_secs(60);

impl Pool {
    async fn states(&self, pod: &PodRef, id: &str) -> Result<Vec<SessionState>, AgentError> {
        let (_open, agent) = self.agent(pod).await?;
        let request = v1::ListSessionsRequest { id: id.to_owned() };
        let mut sessions = agent.sessions();
        let reply = answer(ASK, sessions.list_sessions(request)).await?;
        let sessions = reply
            .into_inner()
            .sessions
            .into_iter()
            .take(MAX_SESSIONS + 1);
        Ok(sessions.filter_map(checked).collect())
    }
}

/// The session, if what the agent says of it can be true. A directory longer
/// than any path is left out: it would go into resources.
fn checked(session: v1::Session) -> Option<SessionState> {
    let fits = |text: &str| text.len() <= MAX_OWNER;
    (session.id.len() <= MAX_SESSION_ID && fits(&session.owner)).then(|| SessionState {
        id: session.id,
        cwd: if session.cwd.len() <= MAX_PATH {
            session.cwd
        } else {
            Bytes::new()
        },
        idle: Duration::from_millis(session.idle_ms),
        owner: (!session.owner.is_empty()).then_some(session.owner),
    })
}

impl Sessions for Pool {
    fn open<'a>(
        &'a self,
        pod: &'a PodRef,
        session: NewSession,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::OpenSessionRequest {
                id: session.id,
                cwd: session.cwd.unwrap_or_default(),
                env: session.env.into_iter().collect(),
                owner: session.owner.unwrap_or_default(),
                existing: session.existing,
            };
            let mut sessions = agent.sessions();
            answer(ASK, sessions.open_session(request)).await.map(drop)
        }
        .boxed()
    }

    fn close<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        owner: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::CloseSessionRequest {
                id: id.to_owned(),
                owner: owner.unwrap_or_default().to_owned(),
            };
            let mut sessions = agent.sessions();
            answer(ASK, sessions.close_session(request)).await.map(drop)
        }
        .boxed()
    }

    fn set_variables<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        env: BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<bool, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::SetSessionVariablesRequest {
                id: id.to_owned(),
                env: env.into_iter().collect(),
            };
            let mut sessions = agent.sessions();
            let reply = answer(QUEUE, sessions.set_session_variables(request)).await?;
            Ok(reply.into_inner().created)
        }
        .boxed()
    }

    fn list<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Vec<SessionState>, AgentError>> {
        self.states(pod, "").boxed()
    }

    fn state<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SessionState>, AgentError>> {
        async move { Ok(self.states(pod, id).await?.into_iter().next()) }.boxed()
    }
}
