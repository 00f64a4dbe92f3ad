//! The interfaces behind which Kubernetes, the agents and the database lie.
//! `service` knows nothing else of them; `cluster`, `link` and `db` implement
//! them.

mod access;
mod agents;
mod attached_pods;
mod exposures;
mod projects;
mod resources;

pub use access::{AccessError, Authenticator};
pub use agents::{Activity, Agents, Commands, Files, NewSession, Search, SessionState, Sessions};
pub use attached_pods::{AttachedPod, AttachedPods};
pub use exposures::Exposures;
pub use projects::{
    DatabaseError, DatabaseState, Integration, Project, ProjectReport, ProjectSandboxes, Projects,
};
pub use resources::{
    NewSandbox, ResourceError, S3Secrets, Sandboxes, SessionRecord, SessionRecords,
};

use hutch_api::{CONTAINER, Sandbox};

/// A pod at one moment of its life: the same name may later belong to another pod,
/// the UID never does.
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
    /// Somebody else made it: its agent has to be brought.
    pub attached: bool,
}

impl PodRef {
    /// The pod of a sandbox that answers commands; `None` of any other.
    pub fn ready(sandbox: &Sandbox) -> Option<Self> {
        let status = sandbox.status.as_ref()?;
        status.phase.answers().then_some(())?;
        Some(Self {
            namespace: sandbox.metadata.namespace.clone()?,
            name: status.pod_name.clone()?,
            uid: status.pod_uid.clone()?,
            container: CONTAINER.to_owned(),
            attached: false,
        })
    }
}
