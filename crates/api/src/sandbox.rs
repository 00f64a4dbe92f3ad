//! `Sandbox`: a pod to run code in, and its workspace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use kube::{CustomResource, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, BucketStatus};
use super::parts::{
    EnvVar, Lifecycle, NodeSelector, Project, Resources, SecurityProfile, Toleration, Workspace,
};

/// A sandbox: one pod to run code in, with its own workspace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "hutch.dev",
    version = "v1alpha1",
    kind = "Sandbox",
    plural = "sandboxes",
    shortname = "sbx",
    category = "hutch",
    namespaced,
    status = "SandboxStatus",
    derive = "PartialEq",
    doc = "A sandbox: one pod to run code in, with its own workspace.",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Pod","type":"string","jsonPath":".status.podName"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Image","type":"string","priority":1,"jsonPath":".status.image"}"#,
    printcolumn = r#"{"name":"Profile","type":"string","priority":1,"jsonPath":".status.securityProfile"}"#,
    printcolumn = r#"{"name":"Buckets","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"BucketsReady\")].status"}"#,
    printcolumn = r#"{"name":"Node","type":"string","priority":1,"jsonPath":".status.node"}"#,
    printcolumn = r#"{"name":"Last Activity","type":"date","priority":1,"jsonPath":".status.lastActivity"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("!has(self.spec.buckets) || self.spec.buckets.all(b, b.mountPath != self.spec.workspace.mountPath && !self.spec.workspace.mountPath.startsWith(b.mountPath + '/'))").message("a bucket must not cover the workspace"),
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("the name of a Sandbox is also its pod's host name: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSpec {
    /// Container image. Unset: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")
    )]
    pub image: Option<String>,
    /// A program that runs beside the commands, such as a server. The agent starts it with
    /// the image's environment. If it ends, the sandbox continues to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 4096)))]
    pub command: Vec<String>,
    /// Environment of every process in the sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Resources of the sandbox.
    #[serde(default)]
    pub resources: Resources,
    /// Directory that keeps the sandbox's files.
    #[serde(default)]
    pub workspace: Workspace,
    /// Isolation of the sandbox's processes. Unset: the operator's `--default-profile`. Its
    /// default is Root if every node that could take the pod supports user namespaces,
    /// otherwise Restricted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_profile: Option<SecurityProfile>,
    /// RuntimeClass of the pod, for runtimes such as gVisor or Kata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub runtime_class_name: Option<String>,
    /// Labels that the pod's node must have.
    #[serde(default, skip_serializing_if = "NodeSelector::is_empty")]
    #[schemars(extend("maxProperties" = 32), schema_with = "node_selector")]
    pub node_selector: NodeSelector,
    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Idle timeout and lifetime of the sandbox.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// True if the sandbox has no pod. Its workspace stays. A request does not wake it.
    #[serde(default)]
    pub suspended: bool,
    /// S3 buckets in the sandbox's file system. They can be added and removed while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.all(a, self.all(b, a.name == b.name || (a.mountPath != b.mountPath && !b.mountPath.startsWith(a.mountPath + '/'))))").message("the mountPaths of two buckets must not overlap"))]
    pub buckets: Vec<Bucket>,
    /// Project that the sandbox serves. Its ID is an annotation of the pod, and the pod's
    /// name is in the project's row of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
}

fn node_selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63}
    })
}

/// State of a sandbox in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It is starting or recovering.
    #[default]
    Pending,
    /// It answers commands.
    Ready,
    /// It answers commands, but a bucket of its spec is not mounted or does not answer. The
    /// condition Ready names it.
    Degraded,
    /// It has no pod, because it is asleep or `suspended` is set. The workspace stays.
    Suspended,
    /// It cannot run until somebody changes something. The condition Ready says what.
    Failed,
    /// It is being deleted.
    Terminating,
}

impl Phase {
    /// True if a sandbox in this phase answers commands.
    pub const fn answers(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }
}

/// State that the controllers observed, and the last use that the facade recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// State of the sandbox in one word.
    #[serde(default)]
    pub phase: Phase,
    /// Ready, WorkspaceReady, PodReady, AgentReady; BucketsReady if the spec has buckets;
    /// RestartPending while a change of the spec waits for the next start; DatabaseSynced if
    /// `project` is set and a database is configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// UID of the pod.
    #[serde(default, rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Image of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Security profile of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_profile: Option<SecurityProfile>,
    /// Name of the workspace's claim, if the workspace is persistent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// Time at which the pod began to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Time at which the sandbox fell asleep. Unset while it is awake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slept_at: Option<Time>,
    /// State of each bucket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub buckets: Vec<BucketStatus>,
    /// Time of the last request or running command, as the facade saw it. It is written every
    /// 30 s at most. A time after `sleptAt` wakes the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Time>,
    /// Trace of the request that wakes the sandbox, in the format of the header
    /// (<https://www.w3.org/TR/trace-context/#traceparent-header>). It is removed when the
    /// sandbox answers and `lastActivity` is written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// ID of the project whose row in the database names this sandbox's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

impl Sandbox {
    /// The reference that makes this sandbox the owner and controller of an object. `None` if
    /// the sandbox has no name or UID yet.
    pub fn owner_reference(&self) -> Option<OwnerReference> {
        let mut owner = self.controller_owner_ref(&())?;
        // A foreground deletion of the sandbox then waits for the object.
        owner.block_owner_deletion = Some(true);
        Some(owner)
    }
}
