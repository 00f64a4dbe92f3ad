//! Makes a target's sandbox usable: creates it, wakes it or waits for it. Waiting is
//! for changes of the cache; the API server is never polled.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::{Acquirer, LifecycleChange};
use crate::ServiceError;
use crate::target::{Owner, Target};
use hutch_api::{Phase, Sandbox};
use hutch_core::interfaces::PodRef;
use hutch_core::{conditions, deadlines};
use hutch_telemetry::{measured, operation, traceparent};

/// How long a state that makes a request fail must last before the request fails. The
/// cache may not show yet that somebody has just repaired the sandbox.
const FAILURE_GRACE: Duration = Duration::from_secs(1);

const UNREADABLE: &str = "its resource does not decode; has a newer Hutch written it?";

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

impl Acquirer {
    /// Returns a pod of the target that answers, at the latest at `deadline`. A sandbox
    /// that does not exist is created; one that is asleep is woken.
    pub(crate) async fn acquire(
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
        let acquisition = Acquisition {
            acquirer: self,
            target,
            deadline,
            created: false,
            woken: None,
            fails_at: None,
        };
        measured(span, acquisition.run()).await
    }

    /// Decides what the target's sandbox needs now, from the cache.
    fn step(&self, target: &Target) -> Step {
        let Some(sandbox) = self.sandboxes.get(&target.name) else {
            return if self.sandboxes.is_unreadable(&target.name) {
                Step::GiveUp(ServiceError::Failed(UNREADABLE.to_owned()))
            } else {
                Step::Create
            };
        };
        self.creator.forget(&target.name);
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

    /// The error of a request whose time is over.
    pub(super) fn not_ready(&self, name: &str) -> ServiceError {
        ServiceError::NotReady {
            waited: self.ready_timeout,
            why: match self.sandboxes.get(name) {
                Some(sandbox) => explain(&sandbox),
                None => "no controller has seen it yet".to_owned(),
            },
        }
    }
}

/// One request that waits until its target's sandbox is usable.
struct Acquisition<'a> {
    acquirer: &'a Acquirer,
    target: &'a Target,
    deadline: Instant,
    /// True if this request has started the creation.
    created: bool,
    /// The start of the sleep that this request has ended.
    woken: Option<Timestamp>,
    /// The time at which the request fails, if the sandbox is in a state for it.
    fails_at: Option<Instant>,
}

impl Acquisition<'_> {
    async fn run(mut self) -> Result<PodRef, ServiceError> {
        let mut changes = self.acquirer.sandboxes.changes();
        loop {
            changes.mark_unchanged();
            let step = self.acquirer.step(self.target);
            if !matches!(step, Step::GiveUp(_)) {
                self.fails_at = None;
            }
            let mut until = self.deadline;
            match step {
                Step::Use(pod) => {
                    self.log_created();
                    return Ok(pod);
                }
                Step::GiveUp(error) => until = until.min(self.give_up(error)?),
                Step::Create => self.create().await?,
                Step::Wake(slept) => self.wake(slept).await?,
                Step::Wait => {}
            }
            if timeout_at(until, changes.changed()).await.is_err() && until == self.deadline {
                return Err(self.acquirer.not_ready(&self.target.name));
            }
        }
    }

    /// Returns the error once the state has lasted for [`FAILURE_GRACE`]. Before that,
    /// returns the time at which that is so.
    fn give_up(&mut self, error: ServiceError) -> Result<Instant, ServiceError> {
        let now = Instant::now();
        let fails_at = *self.fails_at.get_or_insert(now + FAILURE_GRACE);
        if now < fails_at {
            Ok(fails_at)
        } else {
            Err(error)
        }
    }

    /// Creates the sandbox, unless the API server has just accepted it.
    async fn create(&mut self) -> Result<(), ServiceError> {
        let (creator, name) = (&self.acquirer.creator, &self.target.name);
        if creator.just_created(name) {
            return Ok(());
        }
        // Only the request that starts the creation logs it.
        self.created |= !creator.is_known(name);
        let change = LifecycleChange::default();
        creator.create(self.target, &change).await.map(drop)
    }

    /// Wakes a sandbox that has been asleep since `slept`, once per sleep.
    async fn wake(&mut self, slept: Timestamp) -> Result<(), ServiceError> {
        if self.woken == Some(slept) {
            return Ok(());
        }
        // A sandbox wakes only if its activity is later than its sleep. This clock may
        // be behind the one that wrote `sleptAt`.
        let after = slept.saturating_add(SignedDuration::from_secs(1));
        let at = Timestamp::now().max(after.unwrap_or(slept));
        let sandboxes = &self.acquirer.sandboxes;
        let record = sandboxes.record_activity(&self.target.name, at, traceparent());
        record.await?;
        self.woken = Some(slept);
        Ok(())
    }

    /// Logs that this request has created a sandbox for a project, and that it runs now.
    fn log_created(&self) {
        let Some(project) = self.target.project.as_ref().filter(|_| self.created) else {
            return;
        };
        let made = self.acquirer.sandboxes.get(&self.target.name);
        let image = made.and_then(|it| it.status.as_ref()?.image.clone());
        let image = image.unwrap_or_default();
        let (sandbox, project, gone) = (&self.target.name, &project.id, &project.container_name);
        match gone {
            Some(gone) => tracing::info!(
                project,
                sandbox,
                image,
                gone,
                "the named container is gone: made another"
            ),
            None => tracing::info!(project, sandbox, image, "made a container"),
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
