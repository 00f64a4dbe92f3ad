//! Reads the cache of sandboxes and waits for its changes. The API server is never
//! polled.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use hutch_api::Sandbox;
use hutch_core::interfaces::Sandboxes;

/// The sandbox of that name, unless it is being deleted.
pub fn live(sandboxes: &dyn Sandboxes, name: &str) -> Option<Arc<Sandbox>> {
    sandboxes.get(name).filter(|sandbox| is_live(sandbox))
}

/// True unless the sandbox is being deleted.
pub fn is_live(sandbox: &Sandbox) -> bool {
    sandbox.metadata.deletion_timestamp.is_none()
}

/// Calls `look` now and after every change of a sandbox, until it answers. Returns
/// `None` at `deadline`.
pub async fn until<T>(
    sandboxes: &dyn Sandboxes,
    deadline: Instant,
    look: impl Fn() -> Option<T>,
) -> Option<T> {
    let mut changes = sandboxes.changes();
    loop {
        changes.mark_unchanged();
        if let Some(answer) = look() {
            return Some(answer);
        }
        timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
    }
}
