//! From a request to a pod that answers.

mod activity;
mod attached_pods;
mod creation;
mod lifecycle;
mod reach;
mod usable;

use std::sync::Arc;
use std::time::Duration;

use crate::places::Places;
use crate::target::{Target, Templates, answers_any_case};
use activity::Activity;
use creation::Creator;
use hutch_core::interfaces::{AttachedPods, Commands, Sandboxes};

pub use lifecycle::LifecycleChange;

/// The settings of an [`Acquirer`].
#[derive(Clone, Debug)]
pub struct AcquireSettings {
    /// The maximum number of sandboxes in the namespace.
    pub max_sandboxes: usize,
    /// How long a request waits for its sandbox to answer. It must be less than
    /// 30 s: known clients give up then.
    pub ready_timeout: Duration,
    /// The specs of sandboxes that requests create.
    pub templates: Templates,
}

/// Provides the running pod of a request's target. It creates and wakes sandboxes,
/// waits for them, and records that they are used.
pub struct Acquirer {
    sandboxes: Arc<dyn Sandboxes>,
    attached_pods: Arc<dyn AttachedPods>,
    ready_timeout: Duration,
    creator: Creator,
    pub(crate) places: Places,
    pub(crate) activity: Activity,
}

impl Acquirer {
    /// Makes the acquirer of one namespace. `agents` reports which sandboxes are busy.
    pub fn new(
        sandboxes: Arc<dyn Sandboxes>,
        attached_pods: Arc<dyn AttachedPods>,
        agents: Arc<dyn Commands>,
        settings: AcquireSettings,
    ) -> Self {
        let AcquireSettings {
            max_sandboxes,
            ready_timeout,
            templates,
        } = settings;
        let workdir = templates.project.workspace.mount_path.clone();
        Self {
            places: Places::new(sandboxes.clone(), attached_pods.clone(), workdir),
            activity: Activity::new(sandboxes.clone(), agents),
            creator: Creator::new(sandboxes.clone(), max_sandboxes, templates),
            sandboxes,
            attached_pods,
            ready_timeout,
        }
    }

    /// The sandbox of an ID of the tenant API: the one of this exact spelling, or an
    /// existing one that was created for every spelling of the ID.
    pub fn tenant(&self, id: &str) -> Target {
        let own = Target::tenant(id);
        if self.sandboxes.get(&own.name).is_some() {
            return own;
        }
        let shared = Target::tenant_any_case(id);
        let made = self.sandboxes.get(&shared.name);
        if made.is_some_and(|made| answers_any_case(&made)) {
            shared
        } else {
            own
        }
    }

    /// The number of sandboxes that answer commands now, as the cache has it.
    pub fn awake(&self) -> usize {
        self.sandboxes.awake()
    }
}

#[cfg(test)]
mod tests;
