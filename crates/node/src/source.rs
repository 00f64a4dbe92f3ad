//! What is mounted, for whom, and with which credentials.

use serde::{Deserialize, Serialize};

use hutch_api::BucketProvider;
use hutch_core::{buckets::Credentials, names};

/// A bucket, or a folder of one, as one sandbox or volume sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// URL of the S3 service.
    pub endpoint: String,
    /// Region that requests are signed for; none: what the provider takes.
    pub region: Option<String>,
    /// Name of the bucket.
    pub bucket: String,
    /// Only what lies under this folder of it.
    pub prefix: Option<String>,
    /// Whose service it is.
    pub provider: BucketProvider,
    /// Refuses writes.
    pub read_only: bool,
    /// Options of the mounter; they win over ours.
    pub options: Vec<String>,
    /// Who is who at the S3 service.
    pub credentials: Credentials,
    /// Whom all files belong to.
    pub owner: Owner,
}

/// A user and a group as the host counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Source {
    /// Digest of all of it, credentials included: another digest is another mount.
    pub(super) fn digest(&self) -> String {
        // Plain data: writing it as JSON cannot fail.
        names::digest(&serde_json::to_vec(self).unwrap_or_default(), 40)
    }
}
