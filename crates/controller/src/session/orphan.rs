//! A SandboxSession whose sandbox does not exist says so. Everything else about it
//! is looked at with its sandbox.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::{Context, Seen};
use hutch_api::SandboxSession;
use hutch_kube::apply::Error;

/// Looks whether the session has a sandbox.
pub async fn reconcile(session: Arc<SandboxSession>, ctx: &Context) -> Result<Action, Error> {
    let namespace = session.namespace().unwrap_or_default();
    let sandbox = ctx
        .caches
        .sandboxes
        .get(&namespace, &session.spec.sandbox_name);
    if sandbox.is_none() && session.metadata.deletion_timestamp.is_none() {
        ctx.report(&session, &Seen::NoSandbox).await?;
    }
    Ok(Action::await_change())
}
