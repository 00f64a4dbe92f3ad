//! What controller, node and facade agree on about buckets: which one is meant,
//! how it comes into a pod, and what its status speaks of.

use k8s_openapi::api::core::v1::Pod;

use super::names;
use crate::crd::{Bucket, BucketStatus, CONTAINER, Mechanism, Sandbox};

/// Reasons why a bucket is not mounted: of its status, and so of the condition
/// BucketsReady and of the facade's answers.
pub mod reasons {
    /// Nothing on the pod's node can mount buckets.
    pub const NO_MOUNTER: &str = "NoMounter";
    /// The Secret, or one of its keys, is not there or may not be used.
    pub const NO_CREDENTIALS: &str = "NoCredentials";
    /// The S3 service refuses the credentials.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// The S3 service has no such bucket.
    pub const NO_SUCH_BUCKET: &str = "NoSuchBucket";
    /// The S3 service cannot be reached, or does not answer.
    pub const UNREACHABLE: &str = "EndpointUnreachable";
    /// The endpoint is `http` and the settings do not allow that.
    pub const INSECURE: &str = "InsecureEndpoint";
    /// An option of the spec is not allowed, or the mounter does not know it.
    pub const BAD_OPTION: &str = "BadOption";
    /// Something in the container is in the way of the mount point.
    pub const PATH_TAKEN: &str = "PathTaken";
    /// A process in the sandbox uses the mount.
    pub const BUSY: &str = "Busy";
    /// The volume's handle is used by another tenant, or with other credentials.
    pub const HANDLE_IN_USE: &str = "HandleInUse";
    /// The mounter failed for another reason.
    pub const MOUNTER_FAILED: &str = "MounterFailed";
}

/// The keys of a bucket. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key itself.
    pub secret_access_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// Whether it is a name that a bucket can have: the rule of `buckets[].bucket`.
pub fn is_bucket_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [name.bytes().next(), name.bytes().last()];
    (3..=63).contains(&name.len())
        && edges.into_iter().flatten().all(word)
        && name
            .bytes()
            .all(|byte| word(byte) || byte == b'-' || byte == b'.')
}

/// Digest of everything that the mount depends on: all of the entry but its name.
pub fn digest(bucket: &Bucket) -> String {
    let unnamed = Bucket {
        name: String::new(),
        ..bucket.clone()
    };
    // Plain data: writing it as JSON cannot fail.
    names::digest(&serde_json::to_vec(&unnamed).unwrap_or_default(), 16)
}

/// How the bucket comes into that pod.
pub fn mechanism(pod: &Pod, bucket: &str) -> Mechanism {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let name = names::bucket_volume(bucket);
    match volumes.is_some_and(|all| all.iter().any(|volume| volume.name == name)) {
        true => Mechanism::Csi,
        false => Mechanism::Live,
    }
}

/// Id of the sandbox's container while it runs, as the pod's status has it.
pub fn container_id(pod: &Pod) -> Option<&str> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    let main = all.iter().find(|status| status.name == CONTAINER)?;
    main.state.as_ref()?.running.as_ref()?;
    main.container_id.as_deref()
}

/// What is known of a bucket of the spec, if it speaks of that container and of
/// the entry as it is now.
pub fn known<'a>(
    sandbox: &'a Sandbox,
    bucket: &Bucket,
    container: Option<&str>,
) -> Option<&'a BucketStatus> {
    let all = &sandbox.status.as_ref()?.buckets;
    let status = all.iter().find(|status| status.name == bucket.name)?;
    let same = status.container_id.as_deref() == container;
    (same && status.digest.as_deref() == Some(&digest(bucket))).then_some(status)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, Volume};

    use super::*;
    use crate::crd::{BucketPhase, BucketProvider, SecretRef};

    fn bucket() -> Bucket {
        Bucket {
            name: "data".into(),
            bucket: "my-bucket".into(),
            prefix: None,
            endpoint: "https://s3.example.com".into(),
            region: None,
            provider: BucketProvider::Other,
            mount_path: "/mnt/data".into(),
            read_only: false,
            options: Vec::new(),
            credentials_secret_ref: SecretRef {
                name: "keys".into(),
                namespace: None,
            },
        }
    }

    #[test]
    fn a_bucket_that_the_pod_has_as_a_volume_comes_through_csi() {
        let mut pod = Pod::default();
        assert_eq!(mechanism(&pod, "data"), Mechanism::Live);
        let volume = Volume {
            name: "bucket-data".into(),
            ..Default::default()
        };
        pod.spec = Some(PodSpec {
            volumes: Some(vec![volume]),
            ..Default::default()
        });
        assert_eq!(mechanism(&pod, "data"), Mechanism::Csi);
        assert_eq!(mechanism(&pod, "other"), Mechanism::Live);
    }

    #[test]
    fn a_status_speaks_of_one_container_and_one_entry() {
        let entry = BucketStatus {
            name: "data".into(),
            phase: BucketPhase::Mounted,
            mechanism: Some(Mechanism::Live),
            since: None,
            last_check: None,
            reason: None,
            error: None,
            container_id: Some("containerd://1".into()),
            digest: Some(digest(&bucket())),
        };
        let mut sandbox = Sandbox::new("s", crate::crd::SandboxSpec::default());
        sandbox.status = Some(crate::crd::SandboxStatus {
            buckets: vec![entry],
            ..Default::default()
        });
        let seen = |bucket: &Bucket, id| known(&sandbox, bucket, id).is_some();
        assert!(seen(&bucket(), Some("containerd://1")));
        assert!(!seen(&bucket(), Some("containerd://2")) && !seen(&bucket(), None));
        let mut other = bucket();
        other.read_only = true;
        assert!(!seen(&other, Some("containerd://1")));
    }
}
