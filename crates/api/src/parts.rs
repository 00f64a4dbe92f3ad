//! Parts of the specs. Each type is narrow and bounded: the API server accepts no value that
//! Hutch would ignore.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An environment variable of every process in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub name: String,
    /// Value of the variable. Nothing in it is expanded.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub value: String,
}

/// Resources of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.requests) || !has(self.limits) || ((!has(self.requests.cpu) || !has(self.limits.cpu) || quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0) && (!has(self.requests.memory) || !has(self.limits.memory) || quantity(self.requests.memory).compareTo(quantity(self.limits.memory)) <= 0) && (!has(self.requests.ephemeralStorage) || !has(self.limits.ephemeralStorage) || quantity(self.requests.ephemeralStorage).compareTo(quantity(self.limits.ephemeralStorage)) <= 0))")
        .message("a request must not exceed its limit")
)]
pub struct Resources {
    /// Upper bounds. A missing field gets the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Compute>,
    /// Amounts that are reserved on the node. A missing field gets the operator's default, or
    /// the limit if that is lower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Compute>,
}

/// Amounts of CPU, memory and disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compute {
    /// Cores, such as `500m` or `2`; at least 10m, at most 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[0-9]+(\.[0-9]+)?m?$"))]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('10m')) >= 0 && quantity(self).compareTo(quantity('256')) <= 0").message("cpu must lie between 10m and 256"))]
    pub cpu: Option<String>,
    /// Bytes, such as `512Mi`; at least 16Mi, at most 4Ti.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$")
    )]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('16Mi')) >= 0 && quantity(self).compareTo(quantity('4Ti')) <= 0").message("memory must lie between 16Mi and 4Ti"))]
    pub memory: Option<String>,
    /// Bytes of the node's disk for files outside the workspace; at least 16Mi, at most 16Ti.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$")
    )]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('16Mi')) >= 0 && quantity(self).compareTo(quantity('16Ti')) <= 0").message("ephemeralStorage must lie between 16Mi and 16Ti"))]
    pub ephemeral_storage: Option<String>,
}

/// Lifetime of the workspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Persistence {
    /// A PersistentVolumeClaim. It survives sleep and a new pod.
    #[default]
    Persistent,
    /// An emptyDir. It ends with the pod.
    Ephemeral,
}

/// Treatment of a persistent workspace when its sandbox is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// The claim is deleted with the sandbox.
    #[default]
    Delete,
    /// The claim stays, with the label `hutch.dev/retained`. Hutch never deletes it.
    Retain,
}

/// Directory that keeps the sandbox's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.persistence == oldSelf.persistence").message("workspace.persistence cannot change: delete the sandbox and make a new one"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("workspace.storageClassName cannot change: delete the sandbox and make a new one"),
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0").message("workspace.size can grow but not shrink"),
    validation = Rule::new("self.persistence == 'Persistent' || !has(self.storageClassName)").message("workspace.storageClassName has no effect on an Ephemeral workspace"),
    validation = Rule::new("self.persistence == 'Persistent' || self.reclaimPolicy == 'Delete'").message("an Ephemeral workspace cannot be retained")
)]
pub struct Workspace {
    /// Path of the workspace. It is also the first working directory.
    #[serde(default = "Workspace::default_mount_path")]
    #[schemars(
        length(min = 2, max = 255),
        regex(pattern = r"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$")
    )]
    #[x_kube(validation = Rule::new("!['proc', 'sys', 'dev', 'bin', 'sbin', 'lib', 'lib64', 'usr', 'etc'].exists(d, self == '/' + d || self.startsWith('/' + d + '/'))").message("workspace.mountPath must not cover a directory that the image needs"))]
    pub mount_path: String,
    /// Size of the claim, or size limit of the emptyDir; 16Mi to 16Ti. It can grow if the
    /// storage class allows it.
    #[serde(default = "Workspace::default_size")]
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$")
    )]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('16Mi')) >= 0 && quantity(self).compareTo(quantity('16Ti')) <= 0").message("workspace.size must lie between 16Mi and 16Ti"))]
    pub size: String,
    /// Storage class of the claim. Unset: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub storage_class_name: Option<String>,
    /// Lifetime of the workspace: `Persistent` survives its pod, `Ephemeral` ends with it.
    #[serde(default)]
    pub persistence: Persistence,
    /// Treatment of the claim when the sandbox is deleted.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
}

/// Directories that the image needs. No workspace may be mounted in them.
const IMAGE_DIRECTORIES: [&str; 9] = [
    "proc", "sys", "dev", "bin", "sbin", "lib", "lib64", "usr", "etc",
];

impl Workspace {
    /// True if a workspace can be mounted at that path. The schema has the same rule for
    /// `mountPath`.
    pub fn can_be_at(path: &str) -> bool {
        let Some(path) = path.strip_prefix('/').filter(|path| path.len() < 255) else {
            return false;
        };
        let fits = |part: &str| {
            let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let mut bytes = part.bytes();
            bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-')
        };
        let first = path.split('/').next().unwrap_or_default();
        path.split('/').all(fits) && !IMAGE_DIRECTORIES.contains(&first)
    }

    fn default_mount_path() -> String {
        "/workspace".into()
    }

    fn default_size() -> String {
        "10Gi".into()
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            mount_path: Self::default_mount_path(),
            size: Self::default_size(),
            storage_class_name: None,
            persistence: Persistence::default(),
            reclaim_policy: ReclaimPolicy::default(),
        }
    }
}

/// Isolation of the sandbox's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecurityProfile {
    /// uid 0 in its own user namespace, with the capabilities that package managers need. On
    /// the host it is an unprivileged user.
    Root,
    /// uid 1000 without capabilities: Pod Security "restricted".
    Restricted,
}

/// Allows the pod to run on nodes with a matching taint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator == 'Equal' ? has(self.key) : !has(self.value)").message("operator Equal needs a key, operator Exists takes no value"), validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')").message("tolerationSeconds takes effect NoExecute only"))]
pub struct Toleration {
    /// Key of the taint. Unset with `Exists`: every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub key: Option<String>,
    /// Comparison of key and value.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint, for `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// The taint's effect. Unset: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Seconds for which a `NoExecute` taint is tolerated. Unset: forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub toleration_seconds: Option<i64>,
}

/// Comparison of a toleration with a taint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value are equal.
    #[default]
    Equal,
    /// The taint has the key.
    Exists,
}

/// Effect of a taint. Unset: every effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New pods are not scheduled.
    NoSchedule,
    /// New pods are scheduled elsewhere if possible.
    PreferNoSchedule,
    /// Running pods are evicted too.
    NoExecute,
}

/// Idle timeout and lifetime of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// The sandbox falls asleep after this time without a request or a running command: the
    /// pod is deleted, the workspace stays, and the next request wakes it. `30s`, `10m`,
    /// `1h`; 1 s to 8760 h. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 10), regex(pattern = r"^[1-9][0-9]*(s|m|h)$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')").message("lifecycle.idleTimeout must lie between 1s and 8760h"))]
    pub idle_timeout: Option<String>,
    /// The sandbox is deleted this time after its creation; 1 s to 8760 h. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 10), regex(pattern = r"^[1-9][0-9]*(s|m|h)$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')").message("lifecycle.ttl must lie between 1s and 8760h"))]
    pub ttl: Option<String>,
    /// True if the sandbox never falls asleep. `idleTimeout` then has no effect.
    #[serde(default)]
    pub keep_alive: bool,
}

/// Project that the sandbox serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Project {
    /// ID of the project: the column `id` of its row in `projects`.
    #[schemars(length(min = 1, max = 255))]
    pub id: String,
}

/// Labels that a node must have.
pub type NodeSelector = BTreeMap<String, String>;
