//! The rules of buckets that the controllers, the node component and the facade share:
//! names, digests, and the reading of pods and statuses.

use k8s_openapi::api::core::v1::Pod;

use super::names;
use hutch_api::{Bucket, BucketStatus, CONTAINER, Mechanism, Sandbox, annotations};

/// True if a bucket can have the name: the rule of `buckets[].bucket`.
pub fn is_bucket_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [name.bytes().next(), name.bytes().last()];
    (3..=63).contains(&name.len())
        && edges.into_iter().flatten().all(word)
        && name
            .bytes()
            .all(|byte| word(byte) || byte == b'-' || byte == b'.')
}

/// Digest of a bucket of the spec without its name: everything that its mount depends on.
pub fn digest(bucket: &Bucket) -> String {
    let unnamed = Bucket {
        name: String::new(),
        ..bucket.clone()
    };
    // Plain data: writing it as JSON cannot fail.
    names::digest(&serde_json::to_vec(&unnamed).unwrap_or_default(), 16)
}

/// The way by which the bucket comes into that pod.
pub fn mechanism(pod: &Pod, bucket: &str) -> Mechanism {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let name = names::bucket_volume(bucket);
    if volumes.is_some_and(|all| all.iter().any(|volume| volume.name == name)) {
        Mechanism::Csi
    } else {
        Mechanism::Live
    }
}

/// The path of the bucket in the pod's container, if it is a volume of the pod.
pub fn volume_path<'a>(pod: &'a Pod, bucket: &str) -> Option<&'a str> {
    let name = names::bucket_volume(bucket);
    let main = pod.spec.as_ref()?.containers.iter();
    let mut mounts = main
        .filter(|container| container.name == CONTAINER)
        .flat_map(|container| container.volume_mounts.iter().flatten());
    let mount = mounts.find(|mount| mount.name == name)?;
    Some(&mount.mount_path)
}

/// The buckets that are volumes of the pod, each with the digest of the bucket's spec at the
/// time when the pod was created.
pub fn annotated(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let notes = pod.metadata.annotations.as_ref();
    let note = notes.and_then(|all| all.get(annotations::BUCKETS));
    let entries = note.map_or("", String::as_str).split(' ');
    entries.filter_map(|entry| entry.split_once('='))
}

/// True if the bucket is a volume of the pod and its spec has changed since. The pod still
/// has the former bucket, and only a new pod changes that.
pub fn is_outdated(pod: &Pod, bucket: &Bucket) -> bool {
    let made = annotated(pod).find(|(name, _)| *name == bucket.name);
    made.is_some_and(|(_, made)| made != digest(bucket))
}

/// The volume handle of CSI-s3: `bucket` or `bucket/prefix`.
pub fn handle(bucket: &Bucket) -> String {
    let prefix = bucket.prefix.as_deref().unwrap_or_default();
    match prefix.trim_matches('/') {
        "" => bucket.bucket.clone(),
        prefix => format!("{}/{prefix}", bucket.bucket),
    }
}

/// ID of the sandbox's container from the pod's status, while it runs.
pub fn container_id(pod: &Pod) -> Option<&str> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    let main = all.iter().find(|status| status.name == CONTAINER)?;
    main.state.as_ref()?.running.as_ref()?;
    main.container_id.as_deref()
}

/// The status of a bucket of the spec, if it is about that container and the present spec.
pub fn current_status<'a>(
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
    use hutch_api::{BucketPhase, BucketProvider, SecretRef};

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
    fn a_bucket_that_is_a_volume_of_the_pod_comes_through_csi() {
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
    fn a_handle_has_no_slash_at_its_ends() {
        let mut bucket = bucket();
        assert_eq!(handle(&bucket), "my-bucket");
        for (prefix, wanted) in [
            ("/", "my-bucket"),
            ("/a/b/", "my-bucket/a/b"),
            ("/a", "my-bucket/a"),
        ] {
            bucket.prefix = Some(prefix.into());
            assert_eq!(handle(&bucket), wanted);
        }
    }

    #[test]
    fn a_volume_is_outdated_when_its_spec_has_changed() {
        let mut pod = Pod::default();
        assert!(annotated(&pod).next().is_none() && !is_outdated(&pod, &bucket()));
        let note = format!("dat=1 data={}", digest(&bucket()));
        pod.metadata.annotations = Some([(annotations::BUCKETS.to_owned(), note)].into());
        assert_eq!(annotated(&pod).next(), Some(("dat", "1")));
        assert!(!is_outdated(&pod, &bucket()));
        let mut other = bucket();
        other.prefix = Some("/a/".into());
        assert!(is_outdated(&pod, &other));
        other.name = "new".into();
        assert!(!is_outdated(&pod, &other));
    }

    #[test]
    fn a_status_is_current_for_one_container_and_one_spec() {
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
        let mut sandbox = Sandbox::new("s", hutch_api::SandboxSpec::default());
        sandbox.status = Some(hutch_api::SandboxStatus {
            buckets: vec![entry],
            ..Default::default()
        });
        let seen = |bucket: &Bucket, id| current_status(&sandbox, bucket, id).is_some();
        assert!(seen(&bucket(), Some("containerd://1")));
        assert!(!seen(&bucket(), Some("containerd://2")) && !seen(&bucket(), None));
        let mut other = bucket();
        other.read_only = true;
        assert!(!seen(&other, Some("containerd://1")));
    }
}
