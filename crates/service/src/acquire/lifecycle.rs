//! Sets the lifecycle of a sandbox, and deletes sandboxes.

use std::sync::Arc;

use tokio::time::Instant;

use super::Acquirer;
use crate::ServiceError;
use crate::cache;
use crate::target::Target;
use hutch_api::{Lifecycle, Sandbox};

/// The changes that a request makes to a sandbox's lifecycle. `None` changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleChange {
    /// The idle timeout, in the format of [`hutch_core::deadlines::parse`].
    pub idle_timeout: Option<String>,
    /// True: the sandbox never falls asleep.
    pub keep_alive: Option<bool>,
}

impl LifecycleChange {
    /// Returns `lifecycle` with the changes made.
    pub fn apply_to(&self, lifecycle: &Lifecycle) -> Lifecycle {
        let idle_timeout = self.idle_timeout.clone();
        Lifecycle {
            idle_timeout: idle_timeout.or_else(|| lifecycle.idle_timeout.clone()),
            keep_alive: self.keep_alive.unwrap_or(lifecycle.keep_alive),
            ttl: lifecycle.ttl.clone(),
        }
    }
}

impl Acquirer {
    /// Creates a sandbox of the tenant API if it does not exist, sets its lifecycle,
    /// and returns its target. It does not wait until the sandbox is ready. The ID means
    /// this sandbox in this spelling only.
    ///
    /// # Errors
    /// If the limit of sandboxes is reached, or the API server refuses a write.
    pub async fn ensure(&self, id: &str, change: &LifecycleChange) -> Result<Target, ServiceError> {
        self.ensure_target(Target::tenant(id), change).await
    }

    /// Does the same as [`Self::ensure`], but every spelling of the ID means this sandbox.
    ///
    /// # Errors
    /// Those of [`Self::ensure`].
    pub async fn ensure_any_case(
        &self,
        id: &str,
        change: &LifecycleChange,
    ) -> Result<Target, ServiceError> {
        self.ensure_target(Target::tenant_any_case(id), change)
            .await
    }

    async fn ensure_target(
        &self,
        target: Target,
        change: &LifecycleChange,
    ) -> Result<Target, ServiceError> {
        let sandbox = match self.sandboxes.get(&target.name) {
            Some(sandbox) if cache::is_live(&sandbox) => sandbox,
            ending => {
                if let Some(ending) = ending {
                    let deadline = Instant::now() + self.ready_timeout;
                    let uid = ending.metadata.uid.as_deref().unwrap_or_default();
                    self.until_gone(&target.name, uid, deadline).await?;
                }
                Arc::new(self.creator.create(&target, change).await?)
            }
        };
        let lifecycle = change.apply_to(&sandbox.spec.lifecycle);
        if lifecycle != sandbox.spec.lifecycle {
            let set = self.sandboxes.set_lifecycle(&target.name, &lifecycle);
            set.await?;
        }
        Ok(target)
    }

    /// Deletes the sandbox and waits until it is gone, with everything that its policy
    /// does not retain. Returns false if the sandbox did not exist.
    ///
    /// # Errors
    /// If the API server refuses the deletion, or it does not end in time.
    pub async fn destroy(&self, target: &Target) -> Result<bool, ServiceError> {
        let deadline = Instant::now() + self.ready_timeout;
        let name = target.name.as_str();
        let sandbox = match self.sandboxes.get(name) {
            Some(sandbox) => sandbox,
            // It may have been created a moment ago, and the cache may be behind.
            None => match self.sandboxes.fetch(name).await? {
                Some(sandbox) => Arc::new(sandbox),
                None => return Ok(false),
            },
        };
        if !target.matches(&sandbox) {
            return Err(ServiceError::NameTaken(name.to_owned()));
        }
        let uid = sandbox.metadata.uid.clone().unwrap_or_default();
        self.creator.forget(name);
        if self.sandboxes.delete(name, &uid).await? {
            self.until_gone(name, &uid, deadline).await?;
        }
        Ok(true)
    }

    async fn until_gone(
        &self,
        name: &str,
        uid: &str,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let gone = || {
            let same = |sandbox: Arc<Sandbox>| sandbox.metadata.uid.as_deref() == Some(uid);
            (!self.sandboxes.get(name).is_some_and(same)).then_some(())
        };
        let gone = cache::until(&*self.sandboxes, deadline, gone).await;
        gone.ok_or_else(|| self.not_ready(name))
    }
}
