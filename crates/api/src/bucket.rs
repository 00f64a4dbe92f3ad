//! Buckets in a sandbox's file system: entries of the spec and of the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An S3 bucket, or a directory of one, that is mounted into the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// Name of this entry, unique among the buckets of the sandbox.
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
    /// Directory of the bucket that is mounted, such as `/data/`. Unset: the whole bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^/([^/\x00-\x1f\x7f]+/)*[^/\x00-\x1f\x7f]*$")
    )]
    #[x_kube(validation = Rule::new("!(self + '/').contains('/./') && !(self + '/').contains('/../')").message("buckets[].prefix must not have the segments . and .."))]
    pub prefix: Option<String>,
    /// URL of the S3 service. `http` is allowed only with `--allow-http-buckets`.
    #[schemars(
        length(min = 8, max = 512),
        regex(pattern = r"^https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]*(/[A-Za-z0-9._~/-]*)?$")
    )]
    pub endpoint: String,
    /// Region for the signatures of requests. Unset: the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub region: Option<String>,
    /// Kind of the S3 service. It decides the mounter's default options.
    #[serde(default)]
    pub provider: BucketProvider,
    /// Path at which the bucket is mounted. The paths of two buckets must not overlap.
    #[schemars(
        length(min = 2, max = 255),
        regex(pattern = r"^(/[A-Za-z0-9_.+@=-]+)+$")
    )]
    #[x_kube(
        validation = Rule::new("!['proc', 'sys', 'dev', 'bin', 'sbin', 'lib', 'lib64', 'usr', 'etc', '.hutch'].exists(d, self == '/' + d || self.startsWith('/' + d + '/'))").message("buckets[].mountPath must not cover a directory that the image or Hutch needs"),
        validation = Rule::new("!(self + '/').contains('/./') && !(self + '/').contains('/../')").message("buckets[].mountPath must not have the segments . and ..")
    )]
    pub mount_path: String,
    /// True if writes to the mount are refused.
    #[serde(default)]
    pub read_only: bool,
    /// Options of the mounter, s3fs, such as `multipart_size=64`. They take precedence over
    /// the provider's defaults. Options that lead out of the sandbox are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 256),
            regex(pattern = r"^[a-z0-9_]+(=[^,\s\x00-\x1f\x7f]*)?$")
        )
    )]
    pub options: Vec<String>,
    /// Secret with the S3 credentials, in the keys `accessKeyID` and `secretAccessKey`.
    pub credentials_secret_ref: SecretRef,
}

/// Kind of the S3 service. It decides the mounter's default options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BucketProvider {
    /// Cloudflare R2.
    R2,
    /// Amazon S3.
    S3,
    /// Google Cloud Storage, by its XML API.
    Gcs,
    /// Any other service, such as MinIO, Ceph or Garage.
    #[default]
    Other,
}

/// Reference to a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Namespace of the Secret. Unset: the sandbox's. A Secret in another namespace is used
    /// only if its label `hutch.dev/sandbox-uid` has this sandbox's UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: Option<String>,
}

/// State of a bucket of a sandbox. The component that mounts it writes this, and only if a
/// user could see the difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketStatus {
    /// Name of the bucket's entry in the spec.
    pub name: String,
    /// State of the mount.
    pub phase: BucketPhase,
    /// The way in which it is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// Time of the last change of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Time of the last check before this entry was written. Every mount is checked every
    /// 10 s. A check that finds no change writes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<Time>,
    /// Reason of the failure, as in the condition BucketsReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Text of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// ID of the container that this entry describes. It does not apply to another one.
    #[serde(
        default,
        rename = "containerID",
        skip_serializing_if = "Option::is_none"
    )]
    pub container_id: Option<String>,
    /// Digest of the entry in the spec that this entry describes. It does not apply to
    /// another version of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// State of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BucketPhase {
    /// It is being mounted, or waits for something. Hutch retries by itself.
    Pending,
    /// It is mounted and answers.
    Mounted,
    /// It is mounted and does not answer. Hutch repairs it by itself if it can.
    Degraded,
    /// It cannot be mounted until somebody changes something.
    Failed,
    /// It is no longer in the spec, but a process still uses it. It is unmounted after that.
    Busy,
}

/// The way in which a bucket is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// `hutch-node` moves the mount into the running container.
    Live,
    /// It is a volume of the pod, from a CSI driver.
    #[serde(rename = "CSI")]
    Csi,
}
