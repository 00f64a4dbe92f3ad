//! Ends what deleted SandboxSessions have left in their sandbox: sessions of the
//! agent whose resource is no more. No finalizer is needed for it, so deleting
//! never hangs; what is deleted while its sandbox sleeps ends when that wakes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::Context;
use crate::cluster::apply::Error;
use crate::crd::{Sandbox, annotations};
use crate::domain::agent::AgentError;
use crate::domain::interfaces::PodRef;

/// When a sandbox that could not be reached is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Closes the sandbox's sessions that no resource stands for any more. Asks its
/// agent once per pod, and whenever a resource has come or gone.
pub async fn reconcile(sandbox: Arc<Sandbox>, ctx: &Context) -> Result<Action, Error> {
    let uid = sandbox.uid().unwrap_or_default();
    if sandbox.metadata.deletion_timestamp.is_some() {
        ctx.swept().remove(&uid);
        return Ok(Action::await_change());
    }
    let had_sessions = sandbox.annotations().contains_key(annotations::SESSIONS);
    let (true, Some(pod)) = (had_sessions, PodRef::ready(&sandbox)) else {
        return Ok(Action::await_change());
    };
    let sessions = ctx.sessions_of(&pod.namespace, &sandbox.name_any());
    let living: BTreeSet<_> = sessions
        .iter()
        .filter_map(|session| session.uid())
        .collect();
    let seen = (pod.uid.clone(), living);
    if ctx.swept().get(&uid) == Some(&seen) {
        return Ok(Action::await_change());
    }
    if let Err(error) = close(&pod, &seen.1, ctx).await {
        tracing::debug!(sandbox = sandbox.name_any(), %error, "sessions were not swept");
        return Ok(Action::requeue(AGAIN));
    }
    ctx.swept().insert(uid, seen);
    Ok(Action::await_change())
}

async fn close(pod: &PodRef, living: &BTreeSet<String>, ctx: &Context) -> Result<(), AgentError> {
    for session in ctx.agents.list(pod).await? {
        let Some(owner) = session.owner.filter(|owner| !living.contains(owner)) else {
            continue;
        };
        match ctx.agents.close(pod, &session.id, Some(&owner)).await {
            Ok(()) | Err(AgentError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
