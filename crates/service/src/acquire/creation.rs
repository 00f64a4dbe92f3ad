//! Creates sandboxes within the limit. The cache shows a new sandbox a moment later,
//! so this remembers the sandboxes that it has just created.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::LifecycleChange;
use crate::ServiceError;
use crate::target::{Target, Templates};
use hutch_api::{Sandbox, annotations};
use hutch_core::interfaces::Sandboxes;
use hutch_core::sync::Lock;
use hutch_telemetry::traceparent;

/// How long a created sandbox counts as existing although the cache does not show it.
const CREATION_GRACE: Duration = Duration::from_secs(10);

/// A sandbox that is being created, or was created and is not in the cache yet.
struct Creation {
    since: Instant,
    /// True once the API server has accepted the sandbox.
    done: bool,
}

impl Creation {
    fn now(done: bool) -> Self {
        let since = Instant::now();
        Self { since, done }
    }
}

/// Creates sandboxes.
pub struct Creator {
    sandboxes: Arc<dyn Sandboxes>,
    max_sandboxes: usize,
    templates: Templates,
    /// By name. The limit counts them: the cache does not show them yet.
    creating: Lock<HashMap<String, Creation>>,
}

impl Creator {
    pub fn new(sandboxes: Arc<dyn Sandboxes>, max_sandboxes: usize, templates: Templates) -> Self {
        Self {
            sandboxes,
            max_sandboxes,
            templates,
            creating: Lock::default(),
        }
    }

    /// Creates the target's sandbox with a changed lifecycle, or returns the one that
    /// has its name.
    pub async fn create(
        &self,
        target: &Target,
        change: &LifecycleChange,
    ) -> Result<Sandbox, ServiceError> {
        let gone = || ServiceError::Gone(target.name.clone());
        let mut new = target.new_sandbox(&self.templates).ok_or_else(gone)?;
        self.reserve(&target.name)?;
        new.spec.lifecycle = change.apply_to(&new.spec.lifecycle);
        if let Some(parent) = traceparent() {
            new.notes.insert(annotations::TRACEPARENT, parent);
        }
        let created = self.sandboxes.create(new).await;
        let name = target.name.clone();
        match &created {
            Ok(_) => self.creating.lock().insert(name, Creation::now(true)),
            Err(_) => self.creating.lock().remove(&name),
        };
        let sandbox = created?;
        if target.matches(&sandbox) {
            Ok(sandbox)
        } else {
            Err(ServiceError::NameTaken(target.name.clone()))
        }
    }

    /// Checks the limit, and counts the name against it from now on. The count includes
    /// sandboxes that the cache does not show yet.
    fn reserve(&self, name: &str) -> Result<(), ServiceError> {
        let mut creating = self.creating.lock();
        creating.retain(|name, new| {
            new.since.elapsed() < CREATION_GRACE && self.sandboxes.get(name).is_none()
        });
        let others = creating.keys().filter(|other| *other != name).count();
        let limit = self.max_sandboxes;
        if self.sandboxes.all().len() + others >= limit {
            return Err(ServiceError::Limit(limit));
        }
        let begun = || Creation::now(false);
        creating.entry(name.to_owned()).or_insert_with(begun);
        Ok(())
    }

    /// True if the sandbox is being created, or was created and is not in the cache yet.
    pub fn is_known(&self, name: &str) -> bool {
        self.creating.lock().contains_key(name)
    }

    /// True if the API server has the sandbox and the cache may not show it yet.
    pub fn just_created(&self, name: &str) -> bool {
        let creating = self.creating.lock();
        let creation = creating.get(name);
        creation.is_some_and(|it| it.done && it.since.elapsed() < CREATION_GRACE)
    }

    /// Forgets a sandbox that the cache has shown, or that is to be deleted. If it is
    /// missing from now on, it is deleted.
    pub fn forget(&self, name: &str) {
        self.creating.lock().remove(name);
    }
}
