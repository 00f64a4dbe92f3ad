//! The session controller. This release serves sessions over REST only, and a
//! SandboxSession says so; its owner reference lets it go with its sandbox.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use serde_json::json;

use crate::cluster::apply::{Error, Writer};
use crate::cluster::caches::Caches;
use crate::controllers::backoff::Backoff;
use crate::controllers::sandbox::desired::owner;
use crate::crd::{Sandbox, SandboxSession, SandboxSessionStatus};
use crate::domain::conditions::{READY, carry_over, condition};

/// What every reconcile of a session can reach.
pub struct Context {
    /// The caches, for reading.
    pub caches: Caches,
    /// The API server, for writing.
    pub writer: Writer,
    /// When a failed reconcile is tried again.
    pub retries: Backoff,
}

/// Gives the session its owner and says that it is not served.
pub async fn reconcile(session: Arc<SandboxSession>, ctx: &Context) -> Result<Action, Error> {
    if session.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = session.namespace().unwrap_or_default();
    let sandbox = ctx
        .caches
        .sandboxes
        .get(&namespace, &session.spec.sandbox_name);
    if let Some(sandbox) = &sandbox
        && session.owner_references().is_empty()
    {
        let patch = json!({ "metadata": { "ownerReferences": [owner(sandbox)] } });
        ctx.writer.merge(session.as_ref(), patch).await?;
    }
    let status = status(&session, sandbox.as_deref(), Timestamp::now());
    if session.status.as_ref() != Some(&status) {
        ctx.writer.status(session.as_ref(), &status, false).await?;
    }
    Ok(Action::await_change())
}

fn status(
    session: &SandboxSession,
    sandbox: Option<&Sandbox>,
    now: Timestamp,
) -> SandboxSessionStatus {
    let (reason, message) = match sandbox {
        Some(_) => (
            "NotServed",
            "this release serves sessions over the REST API only, not as resources".to_owned(),
        ),
        None => (
            "SandboxNotFound",
            format!("there is no sandbox {}", session.spec.sandbox_name),
        ),
    };
    let old = session.status.as_ref();
    let kept = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let generation = session.metadata.generation;
    let ready = condition(READY, Some(false), reason, message, generation, now);
    SandboxSessionStatus {
        conditions: carry_over(kept, vec![ready]),
        observed_generation: generation,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{SandboxSessionSpec, SandboxSpec};

    #[test]
    fn a_session_says_why_it_is_not_served_and_says_it_once() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let spec = SandboxSessionSpec {
            sandbox_name: "box".into(),
            id: "s".into(),
            ..Default::default()
        };
        let mut session = SandboxSession::new("s", spec);
        let first = status(&session, None, at(1));
        assert_eq!(first.conditions[0].reason, "SandboxNotFound");
        session.status = Some(first.clone());
        assert_eq!(status(&session, None, at(9)), first);
        let sandbox = Sandbox::new("box", SandboxSpec::default());
        let served = status(&session, Some(&sandbox), at(9));
        assert_eq!(served.conditions[0].reason, "NotServed");
    }
}
