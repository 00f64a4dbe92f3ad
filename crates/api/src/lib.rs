//! What users write: the custom resources and every name that Hutch puts on
//! Kubernetes objects. Labels, annotations, finalizers and field managers are
//! named here and nowhere else. This module imports nothing of ours and does
//! no I/O.

pub mod bucket;
pub mod parts;
mod reference;
pub mod sandbox;
pub mod session;

pub use bucket::{Bucket, BucketPhase, BucketProvider, BucketStatus, Mechanism, SecretRef};
pub use parts::{
    Compute, EnvVar, Lifecycle, Persistence, Project, ReclaimPolicy, Resources, SecurityProfile,
    Toleration, Workspace,
};
pub use reference::reference;
pub use sandbox::{Phase, Sandbox, SandboxSpec, SandboxStatus};
pub use session::{SandboxSession, SandboxSessionSpec, SandboxSessionStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The definitions of all custom resources: what `crds/` holds, a file each.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [Sandbox::crd(), SandboxSession::crd()]
}

/// API group of the custom resources.
pub const GROUP: &str = "hutch.dev";
/// Version of the custom resources.
pub const VERSION: &str = "v1alpha1";

/// Value of `app.kubernetes.io/managed-by` on every object that Hutch makes.
pub const MANAGED_BY: &str = "hutch";

/// Label keys.
pub mod labels {
    /// Set to [`super::MANAGED_BY`] on every object that Hutch makes; the caches
    /// of pods and claims select on it.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Name of the sandbox that an object belongs to.
    pub const SANDBOX: &str = "hutch.dev/sandbox";
    /// UID of the sandbox that an object belongs to: ownership goes by it.
    pub const SANDBOX_UID: &str = "hutch.dev/sandbox-uid";
    /// Name of the bucket that an object is for, as its sandbox's spec has it.
    pub const BUCKET: &str = "hutch.dev/bucket";
    /// Name of the PersistentVolume that a claim or a Secret of a bucket goes with.
    pub const VOLUME: &str = "hutch.dev/volume";
    /// Present on a claim that its sandbox's reclaim policy retained.
    pub const RETAINED: &str = "hutch.dev/retained";
    /// `true` on a pod that somebody else made and that conversations may work in.
    pub const ATTACH: &str = "hutch.dev/attach";
}

/// Annotation keys.
pub mod annotations {
    /// The id that a REST client gave the sandbox, unchanged.
    pub const SANDBOX_ID: &str = "hutch.dev/sandbox-id";
    /// `true` on a Sandbox whose id means every id that differs in case only.
    pub const ANY_CASE: &str = "hutch.dev/any-case";
    /// `true` on a Sandbox that has had a SandboxSession: those that were deleted
    /// while it slept are ended when it wakes.
    pub const SESSIONS: &str = "hutch.dev/sessions";
    /// The conversation that a sandbox of its own was made for.
    pub const CONVERSATION: &str = "hutch.dev/conversation-id";
    /// On a Sandbox: the trace that its start is a part of, as the header of that name
    /// (<https://www.w3.org/TR/trace-context/#traceparent-header>).
    pub const TRACEPARENT: &str = "hutch.dev/traceparent";
    /// On a Sandbox that a backend made: what it calls its project.
    pub const TITLE: &str = "hutch.dev/project-name";
    /// On a Sandbox: apply pending changes by a new pod now. A new value
    /// restarts once more. On a pod: the value it was made with.
    pub const RESTART: &str = "hutch.dev/restart";
    /// On a pod: digest of everything that cannot change without a new pod.
    pub const POD_DIGEST: &str = "hutch.dev/pod-digest";
    /// On a pod: the buckets that it has as volumes, each with the digest of its
    /// entry in the spec: `data=… logs=…`.
    pub const BUCKETS: &str = "hutch.dev/buckets";
    /// On a pod: the project that its sandbox works for.
    pub const PROJECT: &str = "hutch.dev/project-id";
    /// On a pod: its claims are bound, which its kubelet may have missed.
    pub const CLAIMS_BOUND: &str = "hutch.dev/claims-bound";
    /// Kubernetes' own, on a pod: the container that is meant where none is named.
    pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
}

/// Field managers, one per writer, so that server-side apply knows who owns what.
pub mod managers {
    /// The sandbox controller: claims, pods and the status it derives.
    pub const SANDBOX: &str = "hutch-sandbox";
    /// The session controller.
    pub const SESSION: &str = "hutch-session";
    /// The REST facade: the resources it creates, `status.lastActivity` and
    /// `status.traceparent`.
    pub const FACADE: &str = "hutch-facade";
    /// `hutch keys`: the Secret with the API keys.
    pub const KEYS: &str = "hutch-keys";
    /// `hutch-node`: the entries of `status.buckets` of the sandboxes on its node.
    pub const NODE: &str = "hutch-node";
    /// Who keeps the database in line: the condition `DatabaseSynced` and
    /// `status.projectId`.
    pub const PROJECTOR: &str = "hutch-projector";
}

/// Name of Hutch's own CSI driver; on a node's CSINode it says that `hutch-node`
/// runs there.
pub const CSI_DRIVER: &str = "s3.hutch.dev";

/// Keys of a Secret with the credentials of a bucket.
pub mod credentials {
    /// The access key's id.
    pub const ACCESS_KEY_ID: &str = "accessKeyID";
    /// The access key itself.
    pub const SECRET_ACCESS_KEY: &str = "secretAccessKey";
    /// URL of the S3 service, where the Secret is a CSI volume's.
    pub const ENDPOINT: &str = "endpoint";
    /// Region, where the Secret is a CSI volume's.
    pub const REGION: &str = "region";
}

/// Name of the Secret in the operator's namespace that has an entry per API key.
pub const API_KEYS: &str = "hutch-api-keys";

/// Name of the container that runs the user's image.
pub const CONTAINER: &str = "sandbox";
