//! The interfaces behind which Kubernetes and the agents lie. `service` knows
//! nothing else of them; `cluster` and `link` implement them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use thiserror::Error;

use super::exec::{ExecError, ExecOutcome, ExecRequest};
use crate::crd::{CONTAINER, Lifecycle, Phase, Sandbox, SandboxSpec};

/// A pod of ours at one moment of its life: the same name may later belong to
/// another pod, the UID never does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Container that the agent runs in.
    pub container: String,
}

impl PodRef {
    /// The pod of a sandbox that answers commands; `None` of any other.
    pub fn ready(sandbox: &Sandbox) -> Option<Self> {
        let status = sandbox.status.as_ref()?;
        (status.phase == Phase::Ready).then_some(())?;
        Some(Self {
            namespace: sandbox.metadata.namespace.clone()?,
            name: status.pod_name.clone()?,
            uid: status.pod_uid.clone()?,
            container: CONTAINER.to_owned(),
        })
    }
}

/// Why a resource could not be read or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResourceError {
    /// The API server refuses the object; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The service may not do this.
    #[error("the cluster does not allow it: {0}")]
    Forbidden(String),
    /// Not now; the same may work later.
    #[error("the cluster cannot be reached: {0}")]
    Unavailable(String),
}

/// A sandbox to be created.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// Name of the resource.
    pub name: String,
    /// The id that the client chose.
    pub id: String,
    /// Whether ids that differ from `id` in case only mean this sandbox, too.
    pub any_case: bool,
    /// What it is to be.
    pub spec: SandboxSpec,
}

/// The Sandbox resources of one namespace, read from a cache that a watch keeps
/// current.
pub trait Sandboxes: Send + Sync {
    /// Whether the cache has been filled once.
    fn synced(&self) -> bool;

    /// The sandbox of that name, as the cache has it.
    fn get(&self, name: &str) -> Option<Arc<Sandbox>>;

    /// The sandbox of that name, as the API server has it now.
    fn fetch<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>>;

    /// How many there are, as the cache has it.
    fn count(&self) -> usize;

    /// How many of them answer commands, as the cache has it.
    fn awake(&self) -> usize;

    /// Resolves at the next change of any sandbox after `changes` was made, and
    /// at every one after it.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Creates the sandbox, or returns the one that has its name.
    fn create(&self, new: NewSandbox) -> BoxFuture<'_, Result<Sandbox, ResourceError>>;

    /// Sets the sandbox's lifecycle; `false` where it does not exist.
    fn set_lifecycle<'a>(
        &'a self,
        name: &'a str,
        lifecycle: &'a Lifecycle,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Records that the sandbox was in use at `at`; `false` where it does not exist.
    fn record_activity<'a>(
        &'a self,
        name: &'a str,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Deletes the sandbox with that UID, after everything that belongs to it;
    /// `false` where it does not exist.
    fn delete<'a>(
        &'a self,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;
}

/// What is going on in a sandbox, as its agent tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Commands that have not ended.
    pub running: u32,
    /// Processes that outlived their command.
    pub background: u32,
    /// Since the last command started or ended.
    pub idle: Duration,
}

/// The agents in the sandboxes' pods.
pub trait Agents: Send + Sync {
    /// Runs one command and waits for its end. It runs at most once: an error
    /// after it was handed over is [`ExecError::Lost`].
    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, ExecError>>;

    /// What is going on in that pod; `None` where it cannot be told. Does not
    /// open a channel that is not open.
    fn activity<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Option<Activity>>;
}
