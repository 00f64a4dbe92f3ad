//! Buckets in a sandbox's file system: what is asked for, and how each is doing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An S3 bucket, or a folder of one, mounted into the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// What the sandbox calls it: unique among its buckets.
    #[schemars(
        length(min = 1, max = 55),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Name of the bucket at its provider.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]{1,61}[a-z0-9])$")
    )]
    pub bucket: String,
    /// Only what lies under this folder of the bucket, such as `/data/`. Unset:
    /// the whole bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^/([^/\x00-\x1f\x7f]+/)*[^/\x00-\x1f\x7f]*$")
    )]
    #[x_kube(validation = Rule::new("!(self + '/').contains('/./') && !(self + '/').contains('/../')").message("buckets[].prefix must not have the segments . and .."))]
    pub prefix: Option<String>,
    /// URL of the S3 service. `http` only where the operator's settings allow it.
    #[schemars(
        length(min = 8, max = 512),
        regex(pattern = r"^https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]*(/[A-Za-z0-9._~/-]*)?$")
    )]
    pub endpoint: String,
    /// Region that requests are signed for. Unset: what the provider takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub region: Option<String>,
    /// Whose service it is: it decides the defaults of the mounter's options.
    #[serde(default)]
    pub provider: BucketProvider,
    /// Where the bucket is mounted. Paths of two buckets must not overlap.
    #[schemars(
        length(min = 2, max = 255),
        regex(pattern = r"^(/[A-Za-z0-9_.+@=-]+)+$")
    )]
    #[x_kube(
        validation = Rule::new("!['proc', 'sys', 'dev', 'bin', 'sbin', 'lib', 'lib64', 'usr', 'etc', '.hutch'].exists(d, self == '/' + d || self.startsWith('/' + d + '/'))").message("buckets[].mountPath must not cover a folder that the image or Hutch needs"),
        validation = Rule::new("!(self + '/').contains('/./') && !(self + '/').contains('/../')").message("buckets[].mountPath must not have the segments . and ..")
    )]
    pub mount_path: String,
    /// Refuses writes.
    #[serde(default)]
    pub read_only: bool,
    /// Options of the mounter, s3fs, such as `multipart_size=64`; they win over
    /// those that the provider suggests. What would lead out of the sandbox is
    /// refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 256),
            regex(pattern = r"^[a-z0-9_]+(=[^,\s\x00-\x1f\x7f]*)?$")
        )
    )]
    pub options: Vec<String>,
    /// The Secret with the keys `accessKeyID` and `secretAccessKey`.
    pub credentials_secret_ref: SecretRef,
}

/// Whose S3 service it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BucketProvider {
    /// Cloudflare R2.
    R2,
    /// Amazon S3.
    S3,
    /// Google Cloud Storage, by its XML API.
    Gcs,
    /// Any other, such as MinIO, Ceph or Garage.
    #[default]
    Other,
}

/// Names a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Its namespace. Unset: the sandbox's. One elsewhere is used only if its
    /// label `hutch.dev/sandbox-uid` names this sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: Option<String>,
}

/// How a bucket of a sandbox is doing. Written by whoever mounts it, when
/// something changes that a person would want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketStatus {
    /// The bucket, as the spec names it.
    pub name: String,
    /// How it is doing.
    pub phase: BucketPhase,
    /// How it comes into the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// Since when the phase is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it was last looked at before this was written. Every mount is looked
    /// at every 10 s; that nothing changed is not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<Time>,
    /// What is wrong, in one word: the reason of the condition BucketsReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The container that this speaks of: of another one it says nothing.
    #[serde(
        default,
        rename = "containerID",
        skip_serializing_if = "Option::is_none"
    )]
    pub container_id: Option<String>,
    /// Digest of the spec's entry that this speaks of: of another one it says
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Where a bucket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BucketPhase {
    /// It is being mounted, or waits for what it needs; tried again by itself.
    Pending,
    /// It is mounted and answers.
    Mounted,
    /// It is mounted and does not answer; healed by itself when it can be.
    Degraded,
    /// It cannot be mounted until somebody changes something.
    Failed,
    /// The spec has it no more, and it is still in use: unmounted once it is not.
    Busy,
}

/// How a bucket comes into a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// `hutch-node` moves the mount into the running container.
    Live,
    /// As a volume of the pod, through a CSI driver.
    #[serde(rename = "CSI")]
    Csi,
}
