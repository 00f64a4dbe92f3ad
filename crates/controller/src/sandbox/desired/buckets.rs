//! Which buckets come as volumes of the pod, what of them is refused, and what the
//! pod has of each. `csi` has the objects behind them.

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use kube::ResourceExt;

use super::placement::Volumes;
use super::pod::USER;
use crate::context::BucketSettings;
use crate::sandbox::problem::Problem;
use hutch_api::{Bucket, BucketProvider, MANAGED_BY, Sandbox, labels};
use hutch_core::buckets::{digest, handle, reasons};
use hutch_core::names;

/// MiB that geesefs may keep in the node's memory per mount; its own default is
/// 1000, and that memory is nobody's limit.
const GEESEFS_MEMORY: u32 = 256;

/// A bucket of the spec that comes as a volume of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketVolume {
    /// The entry of the spec.
    pub bucket: Bucket,
    /// Namespace of the sandbox.
    pub namespace: String,
    /// Name of the claim.
    pub claim: String,
    /// What is mounted.
    pub handle: String,
    /// The driver that mounts it.
    pub(super) driver: String,
    pub(super) mounter: &'static str,
    pub(super) options: String,
    /// Driver, handle, credentials: what two sandboxes must agree on.
    source: String,
}

/// The buckets of the spec that a pod made now gets as volumes.
///
/// # Errors
/// What stands in the way of such a pod.
pub fn volumes(
    sandbox: &Sandbox,
    settings: &BucketSettings,
    which: Volumes,
) -> Result<Vec<BucketVolume>, Problem> {
    let mut volumes = Vec::<BucketVolume>::new();
    let namespace = sandbox.namespace().unwrap_or_default();
    for bucket in &sandbox.spec.buckets {
        let live = match which {
            Volumes::None => true,
            Volumes::Declared => comes_live(bucket, &namespace, settings),
            Volumes::All => false,
        };
        if live {
            continue;
        }
        check(bucket, settings)?;
        let volume = BucketVolume::new(bucket, &namespace, settings);
        if let Some(twin) = volumes.iter().find(|other| other.handle == volume.handle) {
            return Err(Problem::failed(
                reasons::HANDLE_IN_USE,
                format!(
                    "buckets {} and {} are both {}: a pod cannot have the same volume twice",
                    twin.bucket.name, bucket.name, volume.handle
                ),
            ));
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

/// Whether `hutch-node` is to mount it though a driver could. What a client
/// mounted while the sandbox ran (its Secret is in the operator's namespace) stays
/// as it was asked for: as a volume it would exclude every other sandbox that
/// mounted the same bucket in the same way, with a Secret of its own. And options
/// of s3fs mean nothing to another mounter.
fn comes_live(bucket: &Bucket, namespace: &str, settings: &BucketSettings) -> bool {
    let of_a_client = bucket.credentials_secret_ref.namespace.as_ref();
    of_a_client.is_some_and(|own| *own == settings.operator_namespace && own != namespace)
        || (!settings.own_driver() && !bucket.options.is_empty())
}

fn check(bucket: &Bucket, settings: &BucketSettings) -> Result<(), Problem> {
    let name = &bucket.name;
    if bucket.endpoint.starts_with("http://") && !settings.allow_http {
        return Err(Problem::failed(
            reasons::INSECURE,
            format!(
                "bucket {name}: its endpoint is http, so keys and data could be read on their way: use https, or start Hutch with --allow-http-buckets"
            ),
        ));
    }
    let own = settings.own_driver();
    if !own && !bucket.options.is_empty() {
        return Err(Problem::failed(
            reasons::BAD_OPTION,
            format!(
                "bucket {name}: its options are those of s3fs, and {} mounts with geesefs: remove them, or run hutch-node",
                settings.csi_driver
            ),
        ));
    }
    // They travel in one text, in which a double quote cannot be written.
    if bucket.options.iter().any(|option| option.contains('"')) {
        return Err(Problem::failed(
            reasons::BAD_OPTION,
            format!("bucket {name}: an option must not contain a double quote"),
        ));
    }
    Ok(())
}

/// Names of the claims that the spec could lead to, whatever stands in the way.
pub fn claim_names(sandbox: &Sandbox, settings: &BucketSettings) -> Vec<String> {
    let namespace = sandbox.namespace().unwrap_or_default();
    let all = sandbox.spec.buckets.iter();
    all.map(|bucket| BucketVolume::new(bucket, &namespace, settings).claim)
        .collect()
}

impl BucketVolume {
    fn new(bucket: &Bucket, namespace: &str, settings: &BucketSettings) -> Self {
        let secret = &bucket.credentials_secret_ref;
        let (driver, handle) = (settings.csi_driver.clone(), handle(bucket));
        let (mounter, options) = if settings.own_driver() {
            ("s3fs", s3fs(bucket))
        } else {
            ("geesefs", geesefs(bucket))
        };
        let source = [
            driver.as_str(),
            &handle,
            secret.namespace.as_deref().unwrap_or(namespace),
            &secret.name,
            &bucket.endpoint,
            bucket.region.as_deref().unwrap_or_default(),
        ]
        .join("\n");
        Self {
            claim: names::bucket_claim(&source, &options),
            bucket: bucket.clone(),
            namespace: namespace.to_owned(),
            handle,
            driver,
            mounter,
            options,
            source,
        }
    }

    /// Name of the volume, and of its Secret.
    pub fn name(&self, namespace_uid: &str) -> String {
        names::bucket_pv(namespace_uid, &self.source, &self.options)
    }

    /// The pod's volume, and where the container has it.
    pub fn in_pod(&self) -> (Volume, VolumeMount) {
        let name = names::bucket_volume(&self.bucket.name);
        let volume = Volume {
            name: name.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: self.claim.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mount = VolumeMount {
            name,
            mount_path: self.bucket.mount_path.clone(),
            read_only: self.bucket.read_only.then_some(true),
            ..Default::default()
        };
        (volume, mount)
    }

    /// What the pod says of it: `name=digest`.
    pub fn note(&self) -> String {
        format!("{}={}", self.bucket.name, digest(&self.bucket))
    }

    /// Whether that is the volume of the claim.
    pub fn is(&self, other: &PersistentVolume) -> bool {
        let claim = other.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        is_ours(other)
            && claim.is_some_and(|claim| {
                claim.namespace.as_deref() == Some(&self.namespace)
                    && claim.name.as_deref() == Some(&self.claim)
            })
    }

    /// That `other` is in the way.
    pub fn in_use(&self, other: &PersistentVolume) -> Problem {
        let claim = other.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let here = claim.is_some_and(|claim| claim.namespace.as_deref() == Some(&self.namespace));
        // Of another namespace no more is told than that there is one.
        let whose = if here {
            format!("volume {} of this namespace", other.name_any())
        } else {
            "a volume of another namespace".to_owned()
        };
        Problem::failed(
            reasons::HANDLE_IN_USE,
            format!(
                "bucket {}: {} is used by {whose}, with other credentials or in another mode, and on a node both would be one mount: use the same Secret, endpoint, region, mode and options, or another prefix",
                self.bucket.name, self.handle
            ),
        )
    }

    /// Whether that volume is in the way: the kubelet takes volumes of one handle
    /// for one, so that the second would have the mount, and with it the keys, of
    /// the first. Only our driver mounts anew for each mode.
    pub fn clashes(&self, other: &PersistentVolume) -> bool {
        let Some(spec) = &other.spec else {
            return false;
        };
        let csi = spec.csi.as_ref();
        let same =
            csi.is_some_and(|csi| csi.driver == self.driver && csi.volume_handle == self.handle);
        let phase = other.status.as_ref().and_then(|s| s.phase.as_deref());
        // Without a claim no pod can have it.
        if !same || matches!(phase, Some("Released" | "Failed")) {
            return false;
        }
        let claim = spec.claim_ref.as_ref();
        let claim = claim.filter(|claim| claim.namespace.as_deref() == Some(&self.namespace));
        let name = claim.and_then(|claim| claim.name.as_deref());
        let Some(name) = name.filter(|_| is_ours(other)) else {
            return true;
        };
        let stem = |name: &str| name.rsplit_once('-').map(|(stem, _)| stem.to_owned());
        let other_mode = self.mounter == "s3fs" && stem(name) == stem(&self.claim);
        name != self.claim && !other_mode
    }
}

/// Whether Hutch made the volume.
pub fn is_ours(volume: &PersistentVolume) -> bool {
    volume.labels().get(labels::MANAGED_BY).map(String::as_str) == Some(MANAGED_BY)
}

/// Whether `claim` is of a bucket, and the sandbox is among its owners.
pub fn uses(sandbox: &Sandbox, claim: &PersistentVolumeClaim) -> bool {
    let mut owners = claim.owner_references().iter();
    claim.labels().contains_key(labels::VOLUME)
        && owners.any(|owner| Some(&owner.uid) == sandbox.metadata.uid.as_ref())
}

/// Options of geesefs: everything belongs to the sandbox's user.
fn geesefs(bucket: &Bucket) -> String {
    let read_only = if bucket.read_only { " -o ro" } else { "" };
    format!(
        "--memory-limit {GEESEFS_MEMORY} --uid {USER} --gid {USER} --dir-mode 0755 --file-mode 0644{read_only}"
    )
}

/// The same of s3fs, with what the provider needs and what the spec says.
fn s3fs(bucket: &Bucket) -> String {
    let mut options = vec![
        format!("uid={USER}"),
        format!("gid={USER}"),
        "umask=0022".to_owned(),
    ];
    if bucket.read_only {
        options.push("ro".to_owned());
    }
    let own = |key: &str| {
        bucket
            .options
            .iter()
            .any(|o| o.split('=').next() == Some(key))
    };
    let provider = match bucket.provider {
        BucketProvider::R2 => Some("nomixupload"),
        BucketProvider::Other => Some("use_path_request_style"),
        BucketProvider::S3 | BucketProvider::Gcs => None,
    };
    options.extend(provider.filter(|key| !own(key)).map(str::to_owned));
    options.extend(bucket.options.iter().cloned());
    let all: Vec<_> = options
        .iter()
        .map(|option| format!("-o {option}"))
        .collect();
    all.join(" ")
}

#[cfg(test)]
#[path = "buckets_tests.rs"]
mod tests;
