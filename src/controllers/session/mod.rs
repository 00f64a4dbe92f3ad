//! The session controller: a SandboxSession that somebody applied is opened in its
//! sandbox's agent, and one that was deleted is closed there (`sweep`). The agent
//! remembers each session's resource by UID, so that a session made anew under an
//! old id is never closed for the old one's sake. What the session does is the
//! facade's to tell.

pub mod status;
pub mod sweep;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use serde_json::json;

use self::status::{Seen, status, worth_writing};
use crate::cluster::apply::{Error, Writer};
use crate::cluster::caches::Caches;
use crate::controllers::backoff::Backoff;
use crate::crd::{Sandbox, SandboxSession, annotations};
use crate::domain::agent::AgentError;
use crate::domain::interfaces::{NewSession, PodRef, Sessions};

/// When a session that something stands in the way of is looked at again.
const AGAIN: Duration = Duration::from_secs(10);

/// What every reconcile of a session can reach.
pub struct Context {
    /// The caches, for reading.
    pub caches: Caches,
    /// The API server, for writing.
    pub writer: Writer,
    /// The agents' sessions.
    pub agents: Arc<dyn Sessions>,
    /// When a failed reconcile is tried again.
    pub retries: Backoff,
    /// By sandbox: what the last sweep saw.
    pub swept: Mutex<Swept>,
}

/// UIDs of a pod and of the resources, by UID of the sandbox.
type Swept = HashMap<String, (String, BTreeSet<String>)>;

impl Context {
    fn swept(&self) -> MutexGuard<'_, Swept> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resources of a sandbox's sessions, those that are ending left out.
    fn sessions_of(&self, namespace: &str, sandbox: &str) -> Vec<Arc<SandboxSession>> {
        let mut all = self.caches.sessions.store().state();
        all.retain(|session| {
            session.metadata.namespace.as_deref() == Some(namespace)
                && session.spec.sandbox_name == sandbox
                && session.metadata.deletion_timestamp.is_none()
        });
        all
    }
}

/// Opens one session, and says so.
pub async fn reconcile(session: Arc<SandboxSession>, ctx: &Context) -> Result<Action, Error> {
    if session.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = session.namespace().unwrap_or_default();
    let sandbox = ctx
        .caches
        .sandboxes
        .get(&namespace, &session.spec.sandbox_name);
    let seen = match &sandbox {
        None => Seen::NoSandbox,
        Some(sandbox) if sandbox.metadata.deletion_timestamp.is_some() => {
            return Ok(Action::await_change());
        }
        Some(sandbox) => match older(&session, ctx) {
            Some(other) => Seen::Duplicate(other),
            None => open(&session, sandbox, ctx).await?,
        },
    };
    let status = status(&session, &seen, Timestamp::now());
    if worth_writing(&session, &status) {
        match ctx.writer.status(session.as_ref(), &status, false).await {
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(match seen {
        Seen::Duplicate(_) | Seen::Refused(_) => Action::requeue(AGAIN),
        Seen::Unreachable(_) => {
            Action::requeue(ctx.retries.failed(&session.uid().unwrap_or_default()))
        }
        Seen::NoSandbox | Seen::NotReady | Seen::Open(_) => Action::await_change(),
    })
}

/// The resource that stands for the same session of the same sandbox already.
fn older(session: &SandboxSession, ctx: &Context) -> Option<String> {
    let namespace = session.namespace().unwrap_or_default();
    let all = ctx.sessions_of(&namespace, &session.spec.sandbox_name);
    let same = all.iter().filter(|other| other.spec.id == session.spec.id);
    let first = same.min_by_key(|other| other.age_key())?;
    (first.age_key() < session.age_key()).then(|| first.name_any())
}

/// Opens the session in its sandbox's pod, once per pod.
async fn open(session: &SandboxSession, sandbox: &Sandbox, ctx: &Context) -> Result<Seen, Error> {
    let Some(pod) = PodRef::ready(sandbox) else {
        let opened = session
            .status
            .as_ref()
            .and_then(|status| status.pod_uid.clone());
        // Asleep, say: the next command finds it.
        return Ok(opened.map_or(Seen::NotReady, Seen::Open));
    };
    let opened = session
        .status
        .as_ref()
        .and_then(|status| status.pod_uid.as_ref());
    if opened == Some(&pod.uid) {
        return Ok(Seen::Open(pod.uid));
    }
    if session.owner_references().is_empty() {
        let owner = sandbox.owner_reference();
        let patch = json!({ "metadata": { "ownerReferences": [owner] } });
        ctx.writer.merge(session, patch).await?;
    }
    if !sandbox.annotations().contains_key(annotations::SESSIONS) {
        let note = json!({ "metadata": { "annotations": { annotations::SESSIONS: "true" } } });
        ctx.writer.merge(sandbox, note).await?;
    }
    let new = NewSession {
        id: session.spec.id.clone(),
        cwd: session.spec.cwd.clone(),
        env: session
            .spec
            .env
            .iter()
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect(),
        owner: session.uid(),
    };
    Ok(match ctx.agents.open(&pod, new).await {
        Ok(()) => {
            ctx.retries.clear(&session.uid().unwrap_or_default());
            Seen::Open(pod.uid)
        }
        Err(AgentError::Unreachable(why) | AgentError::Lost(why)) => Seen::Unreachable(why),
        Err(refused) => Seen::Refused(refused.to_string()),
    })
}
