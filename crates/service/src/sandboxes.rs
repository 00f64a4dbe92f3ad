//! Makes a target's sandbox usable: creates it, wakes it or waits for it. Waiting is
//! for changes of the cache; the API server is never polled.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::target::{Owner, Target};
use super::{Service, ServiceError};
use hutch_api::{Phase, Sandbox, annotations};
use hutch_core::interfaces::PodRef;
use hutch_core::{conditions, deadlines};
use hutch_telemetry::{measured, operation, traceparent};

/// How long a created sandbox counts as existing although the cache does not show it.
const CREATION_GRACE: Duration = Duration::from_secs(10);

/// A sandbox that is being created, or was created and is not in the cache yet.
pub(super) struct Creation {
    since: Instant,
    /// True once the API server has accepted the sandbox.
    done: bool,
}

impl Creation {
    fn done() -> Self {
        Self {
            done: true,
            ..Self::default()
        }
    }
}

impl Default for Creation {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            done: false,
        }
    }
}

/// How long a state that makes a request fail must last before the request fails. The
/// cache may not show yet that somebody has just repaired the sandbox.
const FAILURE_GRACE: Duration = Duration::from_secs(1);

/// The changes that a request makes to a sandbox's lifecycle. `None` changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleChange {
    /// The idle timeout, in the format of [`deadlines::parse`].
    pub idle_timeout: Option<String>,
    /// True: the sandbox never falls asleep.
    pub keep_alive: Option<bool>,
}

impl LifecycleChange {
    /// Returns `lifecycle` with the changes made.
    fn apply_to(&self, lifecycle: &hutch_api::Lifecycle) -> hutch_api::Lifecycle {
        hutch_api::Lifecycle {
            idle_timeout: self
                .idle_timeout
                .clone()
                .or_else(|| lifecycle.idle_timeout.clone()),
            keep_alive: self.keep_alive.unwrap_or(lifecycle.keep_alive),
            ttl: lifecycle.ttl.clone(),
        }
    }
}

/// The next step of a request that wants to use a sandbox.
enum Step {
    Create,
    /// The sandbox has been asleep since then.
    Wake(Timestamp),
    Wait,
    Use(PodRef),
    /// The request fails, if the state lasts for [`FAILURE_GRACE`].
    GiveUp(ServiceError),
}

impl Service {
    /// Creates a sandbox of the tenant API if it does not exist, sets its lifecycle,
    /// and returns its target. It does not wait until the sandbox is ready. With
    /// `any_case`, every spelling of the ID means this sandbox.
    ///
    /// # Errors
    /// If the limit of sandboxes is reached, or the API server refuses a write.
    pub async fn ensure(
        &self,
        id: &str,
        any_case: bool,
        change: &LifecycleChange,
    ) -> Result<Target, ServiceError> {
        let target = if any_case {
            Target::tenant_any_case(id)
        } else {
            Target::tenant(id)
        };
        let sandbox = match self.sandboxes.get(&target.name) {
            Some(sandbox) if sandbox.metadata.deletion_timestamp.is_none() => sandbox,
            Some(ending) => {
                let deadline = Instant::now() + self.settings.ready_timeout;
                let uid = ending.metadata.uid.as_deref().unwrap_or_default();
                self.until_gone(&target.name, uid, deadline).await?;
                Arc::new(self.create(&target, change).await?)
            }
            None => Arc::new(self.create(&target, change).await?),
        };
        let lifecycle = change.apply_to(&sandbox.spec.lifecycle);
        if lifecycle != sandbox.spec.lifecycle {
            let set = self.sandboxes.set_lifecycle(&target.name, &lifecycle);
            set.await?;
        }
        Ok(target)
    }

    /// Returns a pod of the target that answers, at the latest at `deadline`. A sandbox
    /// that does not exist is created; one that is asleep is woken.
    pub(super) async fn acquire(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> Result<PodRef, ServiceError> {
        let name = target.name.as_str();
        if target.owner == Owner::AttachedPod {
            return self.attached_pod(name, deadline).await;
        }
        let span = match self.step(target) {
            Step::Use(pod) => return Ok(pod),
            Step::Create => operation!("create", sandbox = name),
            Step::Wake(_) => operation!("wake", sandbox = name),
            // Another request, or a user, has begun what this one waits for.
            Step::Wait | Step::GiveUp(_) => operation!("wait", sandbox = name),
        };
        measured(span, self.until_usable(target, deadline)).await
    }

    async fn until_usable(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> Result<PodRef, ServiceError> {
        let name = target.name.as_str();
        let mut changes = self.sandboxes.changes();
        let (mut woken, mut fails_at, mut created) = (None, None, false);
        loop {
            changes.mark_unchanged();
            let mut until = deadline;
            match self.step(target) {
                Step::Use(pod) => {
                    if created {
                        self.log_created(target);
                    }
                    return Ok(pod);
                }
                Step::GiveUp(error) => {
                    let fails_at = *fails_at.get_or_insert_with(|| Instant::now() + FAILURE_GRACE);
                    if Instant::now() >= fails_at {
                        return Err(error);
                    }
                    until = deadline.min(fails_at);
                }
                Step::Create if !self.just_created(name) => {
                    // Only the request that starts the creation logs it.
                    created |= !self.creating().contains_key(name);
                    self.create(target, &LifecycleChange::default()).await?;
                }
                Step::Wake(slept) if woken != Some(slept) => {
                    // A sandbox wakes only if its activity is later than its sleep.
                    // This clock may be behind the one that wrote `sleptAt`.
                    let after = slept.saturating_add(SignedDuration::from_secs(1));
                    let at = Timestamp::now().max(after.unwrap_or(slept));
                    let record = self.sandboxes.record_activity(name, at, traceparent());
                    record.await?;
                    woken = Some(slept);
                }
                Step::Create | Step::Wake(_) | Step::Wait => {}
            }
            if timeout_at(until, changes.changed()).await.is_err() && until == deadline {
                return Err(self.not_ready(name));
            }
        }
    }

    fn step(&self, target: &Target) -> Step {
        let Some(sandbox) = self.sandboxes.get(&target.name) else {
            return Step::Create;
        };
        // The cache has shown it. If it disappears from now on, it is deleted.
        self.creating().remove(&target.name);
        if !target.matches(&sandbox) {
            return Step::GiveUp(ServiceError::NameTaken(target.name.clone()));
        }
        if sandbox.metadata.deletion_timestamp.is_some() {
            return Step::Wait;
        }
        if sandbox.spec.suspended {
            return Step::GiveUp(ServiceError::Suspended);
        }
        let Some(status) = &sandbox.status else {
            return Step::Wait;
        };
        if let (true, Some(slept)) = (deadlines::is_asleep(&sandbox), &status.slept_at) {
            return Step::Wake(slept.0);
        }
        let current = status.observed_generation == sandbox.metadata.generation;
        if status.phase == Phase::Failed && current {
            return Step::GiveUp(ServiceError::Failed(explain(&sandbox)));
        }
        PodRef::ready(&sandbox).map_or(Step::Wait, Step::Use)
    }

    async fn create(
        &self,
        target: &Target,
        change: &LifecycleChange,
    ) -> Result<Sandbox, ServiceError> {
        let gone = || ServiceError::Gone(target.name.clone());
        let mut new = target.new_sandbox(&self.settings).ok_or_else(gone)?;
        self.reserve(&target.name)?;
        new.spec.lifecycle = change.apply_to(&new.spec.lifecycle);
        if let Some(parent) = traceparent() {
            new.notes.insert(annotations::TRACEPARENT, parent);
        }
        let created = self.sandboxes.create(new).await;
        let name = target.name.clone();
        match &created {
            Ok(_) => self.creating().insert(name, Creation::done()),
            Err(_) => self.creating().remove(&name),
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
        let mut creating = self.creating();
        creating.retain(|name, new| {
            new.since.elapsed() < CREATION_GRACE && self.sandboxes.get(name).is_none()
        });
        let others = creating.keys().filter(|other| *other != name).count();
        let limit = self.settings.max_sandboxes;
        if self.sandboxes.count() + others >= limit {
            return Err(ServiceError::Limit(limit));
        }
        creating.entry(name.to_owned()).or_default();
        Ok(())
    }

    /// True if the API server has the sandbox and the cache may not show it yet.
    fn just_created(&self, name: &str) -> bool {
        let creating = self.creating();
        creating
            .get(name)
            .is_some_and(|creation| creation.done && creation.since.elapsed() < CREATION_GRACE)
    }

    fn creating(&self) -> MutexGuard<'_, HashMap<String, Creation>> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the sandbox and waits until it is gone, with everything that its policy
    /// does not retain. A sandbox that does not exist is no error.
    ///
    /// # Errors
    /// If the API server refuses the deletion, or it does not end in time.
    pub async fn destroy(&self, target: &Target) -> Result<(), ServiceError> {
        self.end(target).await.map(drop)
    }

    /// Does the same as [`Self::destroy`]. Returns false if the sandbox did not exist.
    pub(super) async fn end(&self, target: &Target) -> Result<bool, ServiceError> {
        let deadline = Instant::now() + self.settings.ready_timeout;
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
        self.creating().remove(name);
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
        let gone = self.until(deadline, gone).await;
        gone.ok_or_else(|| self.not_ready(name))
    }

    /// Calls `look` now and after every change of a sandbox, until it answers. Returns
    /// `None` at `deadline`.
    pub(super) async fn until<T>(
        &self,
        deadline: Instant,
        look: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.sandboxes.changes();
        loop {
            changes.mark_unchanged();
            if let Some(answer) = look() {
                return Some(answer);
            }
            timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
        }
    }

    pub(super) fn not_ready(&self, name: &str) -> ServiceError {
        ServiceError::NotReady {
            waited: self.settings.ready_timeout,
            why: match self.sandboxes.get(name) {
                Some(sandbox) => explain(&sandbox),
                None => "no controller has seen it yet".to_owned(),
            },
        }
    }
}

/// Why the sandbox is not ready: the reason and message of its Ready condition.
fn explain(sandbox: &Sandbox) -> String {
    if sandbox.metadata.deletion_timestamp.is_some() {
        return "it is being deleted".to_owned();
    }
    let status = sandbox.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    match conditions::find(conditions, conditions::READY) {
        Some(ready) => format!("{}: {}", ready.reason, ready.message),
        None => "no controller has seen it yet".to_owned(),
    }
}
