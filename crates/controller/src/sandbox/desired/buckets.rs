//! The buckets of a spec that are volumes of the pod. `csi` builds the objects behind such a
//! volume.

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use kube::ResourceExt;

use super::placement::Volumes;
use super::pod::USER;
use crate::context::BucketSettings;
use crate::sandbox::problem::Problem;
use hutch_api::{Bucket, Sandbox, labels};
use hutch_core::buckets::{digest, handle};
use hutch_core::names;
use hutch_core::objects::{claim_of, is_managed, is_owned_by, is_unusable};
use hutch_core::reasons::Reason;
use hutch_core::s3::{EndpointError, provider_options};

/// Memory of the node in MiB that geesefs may use per mount. Its own default is 1000, and no
/// limit of a pod covers that memory.
const GEESEFS_MEMORY_MIB: u32 = 256;

/// A bucket of the spec that is a volume of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketVolume {
    /// The entry of the spec.
    pub bucket: Bucket,
    /// Namespace of the sandbox.
    pub namespace: String,
    /// Name of the claim.
    pub claim: String,
    /// The CSI volume handle: bucket and prefix.
    pub handle: String,
    /// The CSI driver that mounts it.
    pub(super) driver: String,
    pub(super) mounter: Mounter,
    pub(super) options: String,
    /// Driver, handle, Secret, endpoint and region. Sandboxes share a volume only if these
    /// are equal.
    source: String,
}

/// The program that mounts a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mounter {
    /// The driver of `hutch-node` uses it.
    S3fs,
    /// Other drivers use it.
    Geesefs,
}

impl Mounter {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::S3fs => "s3fs",
            Self::Geesefs => "geesefs",
        }
    }
}

/// The buckets of the spec that are volumes of a new pod.
///
/// # Errors
/// A bucket that cannot be a volume.
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
            Volumes::Declared => is_live_mount(bucket, &namespace, settings),
            Volumes::All => false,
        };
        if live {
            continue;
        }
        check(bucket, settings)?;
        let volume = BucketVolume::new(bucket, &namespace, settings);
        if let Some(twin) = volumes.iter().find(|other| other.handle == volume.handle) {
            return Err(Problem::failed(
                Reason::HandleInUse,
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

/// True if `hutch-node` mounts the bucket although a driver could. There are two cases:
///
/// - A client mounted it over REST, so its Secret is in the operator's namespace. As a volume
///   it would conflict with every other sandbox that mounts the same bucket, because each has
///   a Secret of its own.
/// - It has options of s3fs, which another mounter does not know.
fn is_live_mount(bucket: &Bucket, namespace: &str, settings: &BucketSettings) -> bool {
    let secret_namespace = bucket.credentials_secret_ref.namespace.as_ref();
    let by_client =
        secret_namespace.is_some_and(|of| *of == settings.operator_namespace && of != namespace);
    by_client || (!settings.own_driver() && !bucket.options.is_empty())
}

fn check(bucket: &Bucket, settings: &BucketSettings) -> Result<(), Problem> {
    let name = &bucket.name;
    settings
        .endpoints
        .check(&bucket.endpoint)
        .map_err(|error| endpoint_problem(name, error))?;
    if !settings.own_driver() && !bucket.options.is_empty() {
        return Err(Problem::failed(
            Reason::BadOption,
            format!(
                "bucket {name}: its options are those of s3fs, and {} mounts with geesefs: remove them, or run hutch-node",
                settings.csi_driver
            ),
        ));
    }
    // The driver gets all options as one text, which cannot contain a double quote.
    if bucket.options.iter().any(|option| option.contains('"')) {
        return Err(Problem::failed(
            Reason::BadOption,
            format!("bucket {name}: an option must not contain a double quote"),
        ));
    }
    Ok(())
}

fn endpoint_problem(bucket: &str, error: EndpointError) -> Problem {
    match error {
        EndpointError::Insecure => Problem::failed(
            Reason::InsecureEndpoint,
            format!(
                "bucket {bucket}: its endpoint is http, so keys and data could be read on their way: use https, or start Hutch with --allow-http-buckets"
            ),
        ),
        EndpointError::Malformed => Problem::failed(
            Reason::BadOption,
            format!(
                "bucket {bucket}: its endpoint is not a URL of the form https://host[:port][/path]"
            ),
        ),
    }
}

/// Names of the claims that the buckets of the spec have if they are volumes. Buckets with a
/// problem are included.
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
            (Mounter::S3fs, s3fs_options(bucket))
        } else {
            (Mounter::Geesefs, geesefs_options(bucket))
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

    /// Name of the volume and of its Secret, for a namespace with that UID.
    pub fn name(&self, namespace_uid: &str) -> String {
        names::bucket_pv(namespace_uid, &self.source, &self.options)
    }

    /// The volume in the pod's spec, and its mount in the container.
    pub fn pod_volume(&self) -> (Volume, VolumeMount) {
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

    /// The entry in the pod's annotation: `name=digest`.
    pub fn annotation(&self) -> String {
        format!("{}={}", self.bucket.name, digest(&self.bucket))
    }

    /// True if Hutch created the other volume for the same claim.
    pub fn matches(&self, other: &PersistentVolume) -> bool {
        is_managed(&other.metadata) && claim_of(other) == Some((&*self.namespace, &*self.claim))
    }

    /// The problem that `other` is in use.
    pub fn conflict(&self, other: &PersistentVolume) -> Problem {
        let claim = other.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let here = claim.is_some_and(|claim| claim.namespace.as_deref() == Some(&self.namespace));
        // The message must not reveal a name from another namespace.
        let whose = if here {
            format!("volume {} of this namespace", other.name_any())
        } else {
            "a volume of another namespace".to_owned()
        };
        Problem::failed(
            Reason::HandleInUse,
            format!(
                "bucket {}: {} is used by {whose}, with other credentials or in another mode, and on a node both would be one mount: use the same Secret, endpoint, region, mode and options, or another prefix",
                self.bucket.name, self.handle
            ),
        )
    }

    /// True if no pod may use this volume while `other` exists. The kubelet treats volumes
    /// with the same handle as one volume, so the second one would get the mount, and with it
    /// the credentials, of the first one. Only the driver of `hutch-node` has a mount per
    /// mode.
    pub fn conflicts_with(&self, other: &PersistentVolume) -> bool {
        let Some(spec) = &other.spec else {
            return false;
        };
        let csi = spec.csi.as_ref();
        let same =
            csi.is_some_and(|csi| csi.driver == self.driver && csi.volume_handle == self.handle);
        if !same || is_unusable(other) {
            return false;
        }
        let claim = spec.claim_ref.as_ref();
        let claim = claim.filter(|claim| claim.namespace.as_deref() == Some(&self.namespace));
        let name = claim.and_then(|claim| claim.name.as_deref());
        let Some(name) = name.filter(|_| is_managed(&other.metadata)) else {
            return true;
        };
        // The part before the last `-` is the digest of the source, the rest that of the
        // options.
        let source = |name: &str| name.rsplit_once('-').map(|(source, _)| source.to_owned());
        let other_mode = self.mounter == Mounter::S3fs && source(name) == source(&self.claim);
        name != self.claim && !other_mode
    }
}

/// True if `claim` is the claim of a bucket and the sandbox is one of its owners.
pub fn is_owner(sandbox: &Sandbox, claim: &PersistentVolumeClaim) -> bool {
    let uid = sandbox.metadata.uid.as_deref();
    claim.labels().contains_key(labels::VOLUME)
        && uid.is_some_and(|uid| is_owned_by(&claim.metadata, uid))
}

/// Options of geesefs. All files belong to the sandbox's user.
fn geesefs_options(bucket: &Bucket) -> String {
    let read_only = if bucket.read_only { " -o ro" } else { "" };
    format!(
        "--memory-limit {GEESEFS_MEMORY_MIB} --uid {USER} --gid {USER} --dir-mode 0755 --file-mode 0644{read_only}"
    )
}

/// Options of s3fs: the owner of all files, then those that the provider needs, then those of
/// the spec. An option of the spec replaces the provider's.
fn s3fs_options(bucket: &Bucket) -> String {
    let mut options = vec![
        format!("uid={USER}"),
        format!("gid={USER}"),
        "umask=0022".to_owned(),
    ];
    if bucket.read_only {
        options.push("ro".to_owned());
    }
    let in_spec = |key: &str| {
        let mut all = bucket.options.iter();
        all.any(|option| option.split('=').next() == Some(key))
    };
    let defaults = provider_options(bucket.provider).iter();
    let defaults = defaults.filter(|option| !in_spec(option));
    options.extend(defaults.map(|option| (*option).to_owned()));
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
