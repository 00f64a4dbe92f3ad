//! Reports a SandboxSession whose sandbox does not exist. The reconcile of the sandbox
//! reports everything else about its sessions.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::Context;
use super::status::Observation;
use hutch_api::SandboxSession;
use hutch_core::objects::is_ending;
use hutch_kube::apply::Error;

pub async fn reconcile(session: Arc<SandboxSession>, ctx: &Context) -> Result<Action, Error> {
    let namespace = session.namespace().unwrap_or_default();
    let (sandboxes, name) = (&ctx.caches.sandboxes, &session.spec.sandbox_name);
    let exists =
        sandboxes.get(&namespace, name).is_some() || sandboxes.is_unreadable(&namespace, name);
    if !exists && !is_ending(&session.metadata) {
        ctx.report(&session, &Observation::NoSandbox).await?;
    }
    Ok(Action::await_change())
}
