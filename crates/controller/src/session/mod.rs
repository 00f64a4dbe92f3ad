//! The session controller. It opens a session in the agent for each SandboxSession
//! and closes sessions whose SandboxSession was deleted. It does so once per pod and
//! after each created or deleted resource. An agent stores the name and the UID of
//! each session's resource. So a new session with an old ID is never closed because
//! the old resource was deleted, and no finalizer delays a deletion. The facade
//! reports the activity in a session.
//!
//! - `align`: compares the agent's sessions with the resources, opens and closes.
//! - `orphan`: reports SandboxSessions without a sandbox.
//! - `status`: builds the status of a SandboxSession.

mod align;
pub mod orphan;
mod status;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use self::status::{Observation, status, worth_writing};
use crate::backoff::RetryDelays;
use hutch_api::{Sandbox, SandboxSession, annotations};
use hutch_core::interfaces::{PodRef, Sessions};
use hutch_core::objects::is_ending;
use hutch_core::sync::Lock;
use hutch_kube::apply::{Error, Writer};
use hutch_kube::caches::Caches;

/// Maximum time to align the sessions of one sandbox: a slow agent must not block the
/// controller.
const ALIGN_TIMEOUT: Duration = Duration::from_secs(20);

/// State that all reconciles of sessions share.
pub struct Context {
    pub caches: Caches,
    pub writer: Writer,
    pub agents: Arc<dyn Sessions>,
    /// Delays the next attempt for a sandbox whose agent did not answer.
    pub retries: RetryDelays,
    /// Pods and resources that need no further alignment.
    pub aligned: Lock<Aligned>,
}

/// The pod's UID and the UIDs of its aligned resources, by UID of the sandbox.
type Aligned = HashMap<String, (String, BTreeSet<String>)>;

impl Context {
    /// The resources of the sandbox's sessions, without those that are being deleted
    /// and those that an earlier sandbox of the same name owns.
    fn sessions_of(&self, sandbox: &Sandbox) -> Vec<Arc<SandboxSession>> {
        let (name, uid) = (
            sandbox.metadata.name.as_deref(),
            sandbox.metadata.uid.as_deref(),
        );
        let of_another = |session: &SandboxSession| {
            let mut owners = session.owner_references().iter();
            owners.any(|owner| owner.kind == "Sandbox" && Some(owner.uid.as_str()) != uid)
        };
        let mut all = self.caches.sessions.store().state();
        all.retain(|session| {
            Some(session.spec.sandbox_name.as_str()) == name
                && session.metadata.namespace == sandbox.metadata.namespace
                && !is_ending(&session.metadata)
                && !of_another(session)
        });
        all
    }

    async fn report(
        &self,
        session: &SandboxSession,
        observation: &Observation,
    ) -> Result<(), Error> {
        let status = status(session, observation, Timestamp::now());
        if !worth_writing(session, &status) {
            return Ok(());
        }
        match self.writer.apply_status(session, &status).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn uids(sessions: &[Arc<SandboxSession>]) -> BTreeSet<String> {
    sessions
        .iter()
        .filter_map(|session| session.uid())
        .collect()
}

/// Aligns the sessions of one sandbox with its SandboxSessions.
pub async fn reconcile(sandbox: Arc<Sandbox>, ctx: &Context) -> Result<Action, Error> {
    if ctx.caches.sandboxes.has_unreadable(&*sandbox) {
        return Ok(Action::await_change());
    }
    let uid = sandbox.uid().unwrap_or_default();
    if is_ending(&sandbox.metadata) {
        ctx.aligned.lock().remove(&uid);
        return Ok(Action::await_change());
    }
    let sessions = ctx.sessions_of(&sandbox);
    let Some(pod) = PodRef::ready(&sandbox) else {
        for session in sessions.iter().filter(|session| session.status.is_none()) {
            ctx.report(session, &Observation::NotReady).await?;
        }
        return Ok(Action::await_change());
    };
    let never = sessions.is_empty() && !sandbox.annotations().contains_key(annotations::SESSIONS);
    let now = (pod.uid.clone(), uids(&sessions));
    if never || ctx.aligned.lock().get(&uid) == Some(&now) {
        return Ok(Action::await_change());
    }
    align::adopt(&sandbox, &sessions, ctx).await?;
    match tokio::time::timeout(ALIGN_TIMEOUT, align::align(&sandbox, &pod, ctx)).await {
        Ok(Ok(alignment)) => {
            for (session, observation) in &alignment.observations {
                ctx.report(session, observation).await?;
            }
            ctx.aligned
                .lock()
                .insert(uid.clone(), (pod.uid, alignment.settled));
            if alignment.retry {
                return Ok(Action::requeue(ctx.retries.failed(&uid)));
            }
            ctx.retries.clear(&uid);
            Ok(Action::await_change())
        }
        Ok(Err(align::AlignError::Write(error))) => Err(error),
        Ok(Err(align::AlignError::Agent(_))) | Err(_) => {
            for session in &sessions {
                ctx.report(session, &Observation::Unreachable).await?;
            }
            Ok(Action::requeue(ctx.retries.failed(&uid)))
        }
    }
}
