//! The custom resources, and every name that Hutch uses on Kubernetes objects: labels,
//! annotations and field managers are named only here. This crate depends on no other crate
//! of Hutch and does no I/O.

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
pub use session::{MAX_SESSION_ID_BYTES, SandboxSession, SandboxSessionSpec, SandboxSessionStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The definitions of all custom resources. `crds/` has one file for each.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [Sandbox::crd(), SandboxSession::crd()]
}

/// API group of the custom resources.
pub const GROUP: &str = "hutch.dev";
/// Version of the custom resources.
pub const VERSION: &str = "v1alpha1";

/// Value of `app.kubernetes.io/managed-by` on every object that Hutch creates.
pub const MANAGED_BY: &str = "hutch";

/// Label keys.
pub mod labels {
    /// Set to [`super::MANAGED_BY`] on every object that Hutch creates. The caches of pods
    /// and claims select by it.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Name of the sandbox to which an object belongs.
    pub const SANDBOX: &str = "hutch.dev/sandbox";
    /// UID of the sandbox to which an object belongs. It decides ownership.
    pub const SANDBOX_UID: &str = "hutch.dev/sandbox-uid";
    /// Name of the bucket's entry in the spec of its sandbox.
    pub const BUCKET: &str = "hutch.dev/bucket";
    /// On a claim or a Secret of a bucket: the name of its PersistentVolume.
    pub const VOLUME: &str = "hutch.dev/volume";
    /// On a claim that its sandbox's reclaim policy retained.
    pub const RETAINED: &str = "hutch.dev/retained";
    /// `true` on an attached pod: somebody else created it, and conversations may work in it.
    pub const ATTACH: &str = "hutch.dev/attach";
}

/// Annotation keys.
pub mod annotations {
    /// The ID that a REST client uses for the sandbox, unchanged.
    pub const SANDBOX_ID: &str = "hutch.dev/sandbox-id";
    /// `true` on a Sandbox whose ID is not case-sensitive.
    pub const ANY_CASE: &str = "hutch.dev/any-case";
    /// `true` on a Sandbox that has had a SandboxSession. Sessions whose resource was deleted
    /// while the sandbox was asleep are ended when it wakes.
    pub const SESSIONS: &str = "hutch.dev/sessions";
    /// The conversation for which the sandbox was created.
    pub const CONVERSATION: &str = "hutch.dev/conversation-id";
    /// On a Sandbox: the trace to which its start belongs, in the format of the header
    /// (<https://www.w3.org/TR/trace-context/#traceparent-header>).
    pub const TRACEPARENT: &str = "hutch.dev/traceparent";
    /// On a Sandbox that the project API created: the name of its project.
    pub const TITLE: &str = "hutch.dev/project-name";
    /// On a Sandbox: a new value replaces the pod at once, which applies pending changes. On
    /// a pod: the value with which it was created.
    pub const RESTART: &str = "hutch.dev/restart";
    /// On a pod: digests of the fields that cannot change without a new pod.
    pub const POD_DIGEST: &str = "hutch.dev/pod-digest";
    /// On a pod: the buckets that are its volumes, each with the digest of its entry in the
    /// spec: `data=… logs=…`.
    pub const BUCKETS: &str = "hutch.dev/buckets";
    /// On a pod: the ID of its sandbox's project.
    pub const PROJECT: &str = "hutch.dev/project-id";
    /// On a pod: its claims are bound. The kubelet may have missed that, and looks again when
    /// the pod changes.
    pub const CLAIMS_BOUND: &str = "hutch.dev/claims-bound";
    /// Kubernetes' own annotation of a pod: the container for requests that name none.
    pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
}

/// Field managers, one per writer. Server-side apply records by them who owns a field.
pub mod managers {
    /// The sandbox controller: claims, pods and its part of the status.
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
    /// The projector: the condition `DatabaseSynced` and `status.projectId`.
    pub const PROJECTOR: &str = "hutch-projector";
}

/// Name of Hutch's own CSI driver. On a node's CSINode it shows that `hutch-node` runs there.
pub const CSI_DRIVER: &str = "s3.hutch.dev";

/// Keys of a Secret with S3 credentials.
pub mod credentials {
    /// The access key ID.
    pub const ACCESS_KEY_ID: &str = "accessKeyID";
    /// The secret access key.
    pub const SECRET_ACCESS_KEY: &str = "secretAccessKey";
    /// URL of the S3 service, in the Secret of a CSI volume.
    pub const ENDPOINT: &str = "endpoint";
    /// Region, in the Secret of a CSI volume.
    pub const REGION: &str = "region";
}

/// Name of the Secret in the operator namespace that has an entry per API key.
pub const API_KEYS: &str = "hutch-api-keys";

/// Name of the container that runs the user's image.
pub const CONTAINER: &str = "sandbox";
