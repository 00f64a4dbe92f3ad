//! Session calls.

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
use hutch_core::exec::MAX_SESSION_ID_BYTES;
use hutch_core::interfaces::{NewSession, PodRef, SessionState, Sessions};

/// Timeout of a call that does not wait for commands.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a call that waits until the session's commands have ended. A client has
/// given up by then.
const QUEUED_CALL_TIMEOUT: Duration = Duration::from_secs(60);

const _: () = assert!(MAX_SESSION_ID_BYTES == MAX_SESSION_ID);

impl Pool {
    async fn states(&self, pod: &PodRef, id: &str) -> Result<Vec<SessionState>, AgentError> {
        let (_open, agent) = self.agent(pod).await?;
        let request = v1::ListSessionsRequest { id: id.to_owned() };
        let mut sessions = agent.sessions();
        let reply = answer(CALL_TIMEOUT, sessions.list_sessions(request)).await?;
        let sessions = reply
            .into_inner()
            .sessions
            .into_iter()
            .take(MAX_SESSIONS + 1);
        Ok(sessions.filter_map(checked).collect())
    }
}

/// Drops a session whose ID or owner is longer than the protocol allows. A directory
/// longer than any path becomes empty, because it would be written to a
/// SandboxSession.
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
            answer(CALL_TIMEOUT, sessions.open_session(request))
                .await
                .map(drop)
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
            answer(CALL_TIMEOUT, sessions.close_session(request))
                .await
                .map(drop)
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
            let reply =
                answer(QUEUED_CALL_TIMEOUT, sessions.set_session_variables(request)).await?;
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
