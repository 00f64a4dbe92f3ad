//! A bucket to mount, with its options, its credentials and the owner of its files.

use serde::{Deserialize, Serialize};

use hutch_api::{Bucket, BucketProvider};
use hutch_core::{names, s3::S3Credentials};

/// A bucket, or a prefix of one, as one sandbox or volume sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// URL of the S3 service.
    pub endpoint: String,
    /// Region that requests are signed for. `None` uses the mounter's default.
    pub region: Option<String>,
    /// Name of the bucket.
    pub bucket: String,
    /// Only objects below this prefix.
    pub prefix: Option<String>,
    /// The kind of S3 service. It decides the mounter's default options.
    pub provider: BucketProvider,
    /// True if the mount refuses writes.
    pub read_only: bool,
    /// Options of the mounter. They replace defaults of the same name.
    pub options: Vec<String>,
    /// The S3 credentials.
    pub credentials: S3Credentials,
    /// The owner of all files.
    pub owner: Owner,
}

/// A user and a group, by the host's IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user ID outside of any user namespace.
    pub uid: u32,
    /// The group ID outside of any user namespace.
    pub gid: u32,
}

impl Source {
    /// A bucket of a sandbox's spec.
    pub fn of_bucket(bucket: &Bucket, credentials: S3Credentials, owner: Owner) -> Self {
        Self {
            endpoint: bucket.endpoint.clone(),
            region: bucket.region.clone(),
            bucket: bucket.bucket.clone(),
            prefix: bucket.prefix.clone(),
            provider: bucket.provider,
            read_only: bucket.read_only,
            options: bucket.options.clone(),
            credentials,
            owner,
        }
    }

    /// Digest of all fields, with the credentials. Another digest means another mount.
    pub(super) fn digest(&self) -> String {
        // Serialization of plain data cannot fail.
        names::digest(&serde_json::to_vec(self).unwrap_or_default(), 40)
    }
}
