//! One look at a sandbox's agent: which of its sessions are whose. The agent is
//! asked before the cache, so that a resource that came meanwhile is not missed;
//! what would close a session is asked of the API server itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::ResourceExt;
use serde_json::json;
use thiserror::Error;

use super::{Context, Seen};
use hutch_api::{MANAGED_BY, Sandbox, SandboxSession, annotations, labels};
use hutch_core::agent::AgentError;
use hutch_core::interfaces::{NewSession, PodRef, SessionState};
use hutch_kube::apply::Error;

/// Why the sessions could not be brought in line.
#[derive(Debug, Error)]
pub enum Failed {
    /// The agent does not answer.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The API server does not take a write.
    #[error(transparent)]
    Write(#[from] Error),
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// What there is to say of each resource.
    pub seen: Vec<(Arc<SandboxSession>, Seen)>,
    /// UIDs of the resources that need no further look in this pod.
    pub settled: BTreeSet<String>,
    /// Something has to be tried again.
    pub again: bool,
}

/// Gives the sandbox's name to what belongs to it: to resources that a person
/// made, and once to the sandbox itself that it has had sessions.
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

/// Opens what has a resource and closes what has lost it.
pub async fn align(sandbox: &Sandbox, pod: &PodRef, ctx: &Context) -> Result<Outcome, Failed> {
    let states = ctx.agents.list(pod).await?;
    let states: HashMap<_, _> = states
        .iter()
        .map(|state| (state.id.as_str(), state))
        .collect();
    let mut sessions = ctx.sessions_of(sandbox);
    sessions.sort_by_key(|session| session.age_key());
    let mut outcome = Outcome::default();
    let mut stands_for: HashMap<String, String> = HashMap::new();
    for session in &sessions {
        let seen = match stands_for.get(&session.spec.id) {
            Some(older) => Seen::Duplicate(older.clone()),
            None => {
                stands_for.insert(session.spec.id.clone(), session.name_any());
                open(
                    session,
                    states.get(session.spec.id.as_str()).copied(),
                    pod,
                    ctx,
                )
                .await?
            }
        };
        match &seen {
            Seen::Refused(_) => outcome.again = true,
            _ => outcome.settled.extend(session.uid()),
        }
        outcome.seen.push((session.clone(), seen));
    }
    let owners: BTreeSet<_> = sessions
        .iter()
        .filter_map(|session| session.owner_name())
        .collect();
    for state in states.values() {
        if let Some(owner) = state
            .owner
            .as_ref()
            .filter(|owner| !owners.contains(*owner))
        {
            close(state, owner, pod, ctx).await?;
        }
    }
    Ok(outcome)
}

async fn open(
    session: &SandboxSession,
    state: Option<&SessionState>,
    pod: &PodRef,
    ctx: &Context,
) -> Result<Seen, Failed> {
    let owner = session.owner_name();
    if state.is_some_and(|state| state.owner == owner) {
        return Ok(Seen::Open);
    }
    // The facade's resources follow a session, which may have ended since.
    let follows = session
        .labels()
        .get(labels::MANAGED_BY)
        .is_some_and(|by| by == MANAGED_BY);
    let new = NewSession {
        existing: follows,
        ..NewSession::applied(session)
    };
    match ctx.agents.open(pod, new).await {
        Ok(()) => Ok(Seen::Open),
        Err(AgentError::NotFound(_)) if follows => {
            ctx.writer.delete(session, false, false).await?;
            Ok(Seen::Ended)
        }
        Err(error @ (AgentError::Unreachable(_) | AgentError::Lost(_))) => Err(error.into()),
        Err(AgentError::Full(_)) => Ok(Seen::Refused(
            "it has as many as it may, or no space is left",
        )),
        Err(AgentError::Unsuitable(_)) => Ok(Seen::Refused("its image has no shell")),
        Err(_) => Ok(Seen::Refused("its agent does not take it")),
    }
}

/// Closes a session whose resource is really gone: nothing brings it back.
async fn close(
    state: &SessionState,
    owner: &str,
    pod: &PodRef,
    ctx: &Context,
) -> Result<(), Failed> {
    if let Some((name, uid)) = owner.split_once('/') {
        let living: Option<SandboxSession> = ctx.writer.read(&pod.namespace, name).await?;
        let same = |living: &SandboxSession| {
            living.metadata.uid.as_deref() == Some(uid)
                && living.metadata.deletion_timestamp.is_none()
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
