//! Compares an agent's sessions with the SandboxSessions. It lists the agent's sessions
//! before it reads the cache, so it does not miss a resource that was created in
//! between. Before it closes a session it reads the resource from the API server.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::ResourceExt;
use serde_json::json;
use thiserror::Error;

use super::Context;
use super::status::Observation;
use hutch_api::{Sandbox, SandboxSession, annotations};
use hutch_core::agent::AgentError;
use hutch_core::interfaces::{NewSession, PodRef, SessionState};
use hutch_core::objects::{is_ending, is_managed};
use hutch_kube::apply::Error;

#[derive(Debug, Error)]
pub enum AlignError {
    /// The agent did not answer.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A call to the API server failed.
    #[error(transparent)]
    Write(#[from] Error),
}

#[derive(Default)]
pub struct Alignment {
    pub observations: Vec<(Arc<SandboxSession>, Observation)>,
    /// UIDs of the resources that need no further alignment in this pod.
    pub settled: BTreeSet<String>,
    /// True if the agent refused a session: the alignment must be repeated.
    pub retry: bool,
}

/// Makes the sandbox the owner of the resources that a user created, and annotates the
/// sandbox once: it has had sessions.
pub async fn adopt(
    sandbox: &Sandbox,
    sessions: &[Arc<SandboxSession>],
    ctx: &Context,
) -> Result<(), Error> {
    for session in sessions {
        let mut owners = session.owner_references().to_vec();
        if owners
            .iter()
            .any(|owner| owner.kind == "Sandbox" || owner.controller == Some(true))
        {
            continue;
        }
        owners.extend(sandbox.owner_reference());
        let patch = json!({ "metadata": { "ownerReferences": owners } });
        match ctx.writer.merge(session.as_ref(), patch).await {
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if !sandbox.annotations().contains_key(annotations::SESSIONS) {
        let note = json!({ "metadata": { "annotations": { annotations::SESSIONS: "true" } } });
        ctx.writer.merge(sandbox, note).await?;
    }
    Ok(())
}

/// Opens sessions that have a resource and closes those that have lost theirs.
pub async fn align(
    sandbox: &Sandbox,
    pod: &PodRef,
    ctx: &Context,
) -> Result<Alignment, AlignError> {
    let states = ctx.agents.list(pod).await?;
    let mut sessions = ctx.sessions_of(sandbox);
    sessions.sort_by_key(|session| session.age_key());
    let alignment = open_all(&sessions, &states, pod, ctx).await?;
    close_orphans(&sessions, &states, pod, ctx).await?;
    Ok(alignment)
}

/// Opens the session of each resource. If several resources have the same session ID, the
/// oldest one represents the session. `sessions` is sorted by age.
async fn open_all(
    sessions: &[Arc<SandboxSession>],
    states: &[SessionState],
    pod: &PodRef,
    ctx: &Context,
) -> Result<Alignment, AlignError> {
    let states: HashMap<_, _> = states
        .iter()
        .map(|state| (state.id.as_str(), state))
        .collect();
    let mut alignment = Alignment::default();
    let mut representatives: HashMap<&str, String> = HashMap::new();
    for session in sessions {
        let id = session.spec.id.as_str();
        let observation = match representatives.get(id) {
            Some(older) => Observation::Duplicate(older.clone()),
            None => {
                representatives.insert(id, session.name_any());
                open(session, states.get(id).copied(), pod, ctx).await?
            }
        };
        if matches!(observation, Observation::Refused(_)) {
            alignment.retry = true;
        } else {
            alignment.settled.extend(session.uid());
        }
        alignment.observations.push((session.clone(), observation));
    }
    Ok(alignment)
}

async fn open(
    session: &SandboxSession,
    state: Option<&SessionState>,
    pod: &PodRef,
    ctx: &Context,
) -> Result<Observation, AlignError> {
    let owner = session.owner_name();
    if state.is_some_and(|state| state.owner == owner) {
        return Ok(Observation::Open);
    }
    // The facade creates a resource after its session, which may have ended since.
    let existing = is_managed(&session.metadata);
    let new = NewSession {
        existing,
        ..NewSession::applied(session)
    };
    match ctx.agents.open(pod, new).await {
        Ok(()) => Ok(Observation::Open),
        Err(AgentError::NotFound(_)) if existing => {
            ctx.writer.delete(session).await?;
            Ok(Observation::Ended)
        }
        Err(error @ (AgentError::Unreachable(_) | AgentError::Lost(_))) => Err(error.into()),
        Err(AgentError::Full(_)) => Ok(Observation::Refused(
            "it has as many as it may, or no space is left",
        )),
        Err(AgentError::Unsuitable(_)) => Ok(Observation::Refused("its image has no shell")),
        Err(_) => Ok(Observation::Refused("its agent does not take it")),
    }
}

/// Closes the sessions whose resource is gone. A session without an owner never had one.
async fn close_orphans(
    sessions: &[Arc<SandboxSession>],
    states: &[SessionState],
    pod: &PodRef,
    ctx: &Context,
) -> Result<(), AlignError> {
    let owners: BTreeSet<_> = sessions
        .iter()
        .filter_map(|session| session.owner_name())
        .collect();
    for state in states {
        // The resource of a session may exist and not decode.
        let is_unreadable = |owner: &str| {
            let name = owner.split_once('/').map_or(owner, |(name, _)| name);
            ctx.caches.sessions.is_unreadable(&pod.namespace, name)
        };
        if let Some(owner) = &state.owner
            && !owners.contains(owner)
            && !is_unreadable(owner)
        {
            close(state, owner, pod, ctx).await?;
        }
    }
    Ok(())
}

/// Closes a session if the API server confirms that its resource is gone: a closed
/// session cannot be restored.
async fn close(
    state: &SessionState,
    owner: &str,
    pod: &PodRef,
    ctx: &Context,
) -> Result<(), AlignError> {
    if let Some((name, uid)) = owner.split_once('/') {
        let living: Option<SandboxSession> = ctx.writer.read(&pod.namespace, name).await?;
        let same = |living: &SandboxSession| {
            living.metadata.uid.as_deref() == Some(uid) && !is_ending(&living.metadata)
        };
        if living.as_ref().is_some_and(same) {
            return Ok(());
        }
    }
    match ctx.agents.close(pod, &state.id, Some(owner)).await {
        Ok(()) | Err(AgentError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
