//! `SandboxSession`: a shell state (directory, variables, functions) that outlives a command.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::EnvVar;

/// Longest ID of a session, in bytes. Agents, the facade and the CRD have the same limit.
pub const MAX_SESSION_ID_BYTES: usize = 512;

/// A session: a shell state of a sandbox that outlives a command.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "hutch.dev",
    version = "v1alpha1",
    kind = "SandboxSession",
    plural = "sandboxsessions",
    shortname = "sbs",
    category = "hutch",
    namespaced,
    status = "SandboxSessionStatus",
    derive = "PartialEq",
    doc = "A session: a shell state of a sandbox that outlives a command.",
    printcolumn = r#"{"name":"Sandbox","type":"string","jsonPath":".spec.sandboxName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Session","type":"string","priority":1,"jsonPath":".spec.id"}"#,
    printcolumn = r#"{"name":"Directory","type":"string","priority":1,"jsonPath":".status.workingDirectory"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a SandboxSession has at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a session's spec cannot change: delete the session and make a new one"))]
pub struct SandboxSessionSpec {
    /// Name of the Sandbox, in the same namespace.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub sandbox_name: String,
    /// ID by which clients name the session.
    #[schemars(length(min = 1, max = MAX_SESSION_ID_BYTES))]
    pub id: String,
    /// First working directory. Unset: the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^/"))]
    pub cwd: Option<String>,
    /// First environment, added to the sandbox's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
}

/// State of a session that the controllers and the facade observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSessionStatus {
    /// Ready, with the reason if it is false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Working directory after the last command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub working_directory: Option<String>,
    /// Time of the last command. It is written every 30 s at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Time>,
}

impl SandboxSession {
    /// The name by which the agent remembers this resource. `None` before it has a UID.
    pub fn owner_name(&self) -> Option<String> {
        let meta = &self.metadata;
        Some(format!("{}/{}", meta.name.as_ref()?, meta.uid.as_ref()?))
    }

    /// Orders sessions by age. If several resources name the same session, the oldest
    /// represents it.
    pub fn age_key(&self) -> (Option<Time>, Option<String>) {
        let meta = &self.metadata;
        (meta.creation_timestamp.clone(), meta.uid.clone())
    }
}
