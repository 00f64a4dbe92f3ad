//! The interfaces to Kubernetes, the agents and the database. `hutch-service` uses them.
//! `hutch-store`, `hutch-link` and `hutch-db` implement them.

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

/// A pod. Another pod may later have the same name, but never the same UID.
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
    /// True for an attached pod. Hutch brings the agent into it.
    pub attached: bool,
}

impl PodRef {
    /// The pod of a sandbox that answers commands; `None` for any other sandbox.
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
