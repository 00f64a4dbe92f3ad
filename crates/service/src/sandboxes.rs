//! From an id to a sandbox that answers: created, woken or waited for as it
//! needs. Waiting is on the cache's changes, never by asking again and again.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::target::{Target, Whose};
use super::{Service, ServiceError};
use hutch_api::{Phase, Sandbox, annotations};
use hutch_core::interfaces::PodRef;
use hutch_core::{conditions, deadlines};
use hutch_telemetry::{measured, operation, traceparent};

/// How long a created sandbox may take to show in the cache before it no longer
/// counts.
const CREATING: Duration = Duration::from_secs(10);

/// A sandbox on its way into the cache.
pub(super) struct Creation {
    since: Instant,
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

/// How long a state that makes a request hopeless must last to be believed: the
/// cache may not show yet that somebody has just mended it.
const LAG: Duration = Duration::from_secs(1);

/// What a request wants changed of a sandbox's lifecycle; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleChange {
    /// Sleep after this long without use, as [`deadlines::parse`] reads it.
    pub idle_timeout: Option<String>,
    /// Never sleep.
    pub keep_alive: Option<bool>,
}

impl LifecycleChange {
    /// `lifecycle` with the change made.
    fn on(&self, lifecycle: &hutch_api::Lifecycle) -> hutch_api::Lifecycle {
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

/// What a sandbox's state asks of a request that wants to use it.
enum Step {
    Create,
    /// Asleep since then.
    Wake(Timestamp),
    Wait,
    Use(PodRef),
    GiveUp(ServiceError),
}

impl Service {
    /// Makes sure that a tenant's sandbox exists, with that lifecycle, and returns
    /// it. With `any_case` it is that of every spelling of the id.
    ///
    /// # Errors
    /// When it may not be created, or the cluster does not take it.
    pub async fn ensure(
        &self,
        id: &str,
        any_case: bool,
        change: &LifecycleChange,
    ) -> Result<Target, ServiceError> {
        let target = Target::tenant(id, any_case);
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
        let lifecycle = change.on(&sandbox.spec.lifecycle);
        if lifecycle != sandbox.spec.lifecycle {
            let set = self.sandboxes.set_lifecycle(&target.name, &lifecycle);
            set.await?;
        }
        Ok(target)
    }

    /// A pod of the target that answers, by `deadline`. A sandbox is created where
    /// there is none and woken where it sleeps.
    pub(super) async fn acquire(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> Result<PodRef, ServiceError> {
        let name = target.name.as_str();
        if target.whose == Whose::Guest {
            return self.guest(name, deadline).await;
        }
        let span = match self.step(target) {
            Step::Use(pod) => return Ok(pod),
            Step::Create => operation!("create", sandbox = name),
            Step::Wake(_) => operation!("wake", sandbox = name),
            // For what somebody else has begun.
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
        let (mut woken, mut doubted, mut made) = (None, None, false);
        loop {
            changes.mark_unchanged();
            let mut until = deadline;
            match self.step(target) {
                Step::Use(pod) => {
                    if made {
                        self.tell_made(target);
                    }
                    return Ok(pod);
                }
                Step::GiveUp(error) => {
                    let believed = *doubted.get_or_insert_with(|| Instant::now() + LAG);
                    if Instant::now() >= believed {
                        return Err(error);
                    }
                    until = deadline.min(believed);
                }
                Step::Create if !self.just_created(name) => {
                    // Of many who want it, one tells of it.
                    made |= !self.creating().contains_key(name);
                    self.create(target, &LifecycleChange::default()).await?;
                }
                Step::Wake(slept) if woken != Some(slept) => {
                    // Later than the sleep by any clock, or it would not wake.
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
        // From now on its absence from the cache is no lag.
        self.creating().remove(&target.name);
        if !target.is(&sandbox) {
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
        if let (true, Some(slept)) = (deadlines::asleep(&sandbox), &status.slept_at) {
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
        new.spec.lifecycle = change.on(&new.spec.lifecycle);
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
        if target.is(&sandbox) {
            Ok(sandbox)
        } else {
            Err(ServiceError::NameTaken(target.name.clone()))
        }
    }

    /// Counts the sandboxes there are and those on their way into the cache.
    fn reserve(&self, name: &str) -> Result<(), ServiceError> {
        let mut creating = self.creating();
        creating.retain(|name, new| {
            new.since.elapsed() < CREATING && self.sandboxes.get(name).is_none()
        });
        let others = creating.keys().filter(|other| *other != name).count();
        let limit = self.settings.max_sandboxes;
        if self.sandboxes.count() + others >= limit {
            return Err(ServiceError::Limit(limit));
        }
        creating.entry(name.to_owned()).or_default();
        Ok(())
    }

    /// Whether the sandbox exists although the cache does not show it yet.
    fn just_created(&self, name: &str) -> bool {
        let creating = self.creating();
        creating
            .get(name)
            .is_some_and(|creation| creation.done && creation.since.elapsed() < CREATING)
    }

    fn creating(&self) -> MutexGuard<'_, HashMap<String, Creation>> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the sandbox and waits until nothing of it is left but what its
    /// policy retains. That it does not exist is no error.
    ///
    /// # Errors
    /// When the cluster does not take the deletion, or it is not done in time.
    pub async fn destroy(&self, target: &Target) -> Result<(), ServiceError> {
        self.end(target).await.map(drop)
    }

    /// The same; `false` where it did not exist.
    pub(super) async fn end(&self, target: &Target) -> Result<bool, ServiceError> {
        let deadline = Instant::now() + self.settings.ready_timeout;
        let name = target.name.as_str();
        let sandbox = match self.sandboxes.get(name) {
            Some(sandbox) => sandbox,
            // Created a moment ago, perhaps, and not in the cache yet.
            None => match self.sandboxes.fetch(name).await? {
                Some(sandbox) => Arc::new(sandbox),
                None => return Ok(false),
            },
        };
        if !target.is(&sandbox) {
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

    /// Looks now and after every change of a sandbox, until there is an answer;
    /// none where there is none by `deadline`.
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

/// What keeps the sandbox from being ready, as its conditions say.
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
