//! The session controller: sessions of an agent and the SandboxSessions that stand
//! for them. What somebody applied is opened, what was deleted is closed, once per
//! pod and whenever a resource comes or goes. An agent remembers each session's
//! resource by name and UID, so that a session made anew under an old id is never
//! closed for the old one's sake, and no finalizer holds a deletion up. What
//! happens in a session is the facade's to tell.

mod align;
pub mod orphan;
pub mod status;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use self::status::{Seen, status, worth_writing};
use crate::backoff::Backoff;
use hutch_api::{Sandbox, SandboxSession, annotations};
use hutch_core::interfaces::{PodRef, Sessions};
use hutch_kube::apply::{Error, Writer};
use hutch_kube::caches::Caches;

/// How long one sandbox's agent may keep the controller busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every reconcile of a sandbox's sessions can reach.
pub struct Context {
    /// The caches, for reading.
    pub caches: Caches,
    /// The API server, for writing.
    pub writer: Writer,
    /// The agents' sessions.
    pub agents: Arc<dyn Sessions>,
    /// When a sandbox that could not be asked is asked again.
    pub retries: Backoff,
    /// What has been aligned.
    pub aligned: Mutex<Aligned>,
}

/// By UID of the sandbox: the pod's UID, and those of the resources.
type Aligned = HashMap<String, (String, BTreeSet<String>)>;

impl Context {
    fn aligned(&self) -> MutexGuard<'_, Aligned> {
        self.aligned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resources of the sandbox's sessions. Those that are ending, or go with
    /// an earlier sandbox of the name, are left out.
    fn sessions_of(&self, sandbox: &Sandbox) -> Vec<Arc<SandboxSession>> {
        let (name, uid) = (
            sandbox.metadata.name.as_deref(),
            sandbox.metadata.uid.as_deref(),
        );
        let another = |session: &SandboxSession| {
            let mut owners = session.owner_references().iter();
            owners.any(|owner| owner.kind == "Sandbox" && Some(owner.uid.as_str()) != uid)
        };
        let mut all = self.caches.sessions.store().state();
        all.retain(|session| {
            Some(session.spec.sandbox_name.as_str()) == name
                && session.metadata.namespace == sandbox.metadata.namespace
                && session.metadata.deletion_timestamp.is_none()
                && !another(session)
        });
        all
    }

    async fn report(&self, session: &SandboxSession, seen: &Seen) -> Result<(), Error> {
        let status = status(session, seen, Timestamp::now());
        if !worth_writing(session, &status) {
            return Ok(());
        }
        match self.writer.status(session, &status, false).await {
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

/// Brings the sessions of one sandbox in line.
pub async fn reconcile(sandbox: Arc<Sandbox>, ctx: &Context) -> Result<Action, Error> {
    let uid = sandbox.uid().unwrap_or_default();
    if sandbox.metadata.deletion_timestamp.is_some() {
        ctx.aligned().remove(&uid);
        return Ok(Action::await_change());
    }
    let sessions = ctx.sessions_of(&sandbox);
    let Some(pod) = PodRef::ready(&sandbox) else {
        for session in sessions.iter().filter(|session| session.status.is_none()) {
            ctx.report(session, &Seen::NotReady).await?;
        }
        return Ok(Action::await_change());
    };
    let never = sessions.is_empty() && !sandbox.annotations().contains_key(annotations::SESSIONS);
    let now = (pod.uid.clone(), uids(&sessions));
    if never || ctx.aligned().get(&uid) == Some(&now) {
        return Ok(Action::await_change());
    }
    align::adopt(&sandbox, &sessions, ctx).await?;
    match tokio::time::timeout(PATIENCE, align::align(&sandbox, &pod, ctx)).await {
        Ok(Ok(outcome)) => {
            for (session, seen) in &outcome.seen {
                ctx.report(session, seen).await?;
            }
            ctx.aligned()
                .insert(uid.clone(), (pod.uid, outcome.settled));
            if outcome.again {
                return Ok(Action::requeue(ctx.retries.failed(&uid)));
            }
            ctx.retries.clear(&uid);
            Ok(Action::await_change())
        }
        Ok(Err(align::Failed::Write(error))) => Err(error),
        Ok(Err(align::Failed::Agent(_))) | Err(_) => {
            for session in &sessions {
                ctx.report(session, &Seen::Unreachable).await?;
            }
            Ok(Action::requeue(ctx.retries.failed(&uid)))
        }
    }
}
