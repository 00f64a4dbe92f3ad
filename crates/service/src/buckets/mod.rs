//! Mounts and unmounts buckets while a sandbox runs. The spec is the source of truth:
//! a mount is an entry in the spec and a Secret with the S3 credentials. It is complete
//! when the status says so. A mount that fails is rolled back.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::target::Target;
use crate::{Acquirer, ServiceError, Sessions, cache};
use hutch_api::{Bucket, BucketPhase, BucketProvider, BucketStatus, Mechanism, Sandbox, SecretRef};
use hutch_core::buckets;
use hutch_core::interfaces::{ResourceError, S3Secrets, Sandboxes};
use hutch_core::names;
use hutch_core::reasons::Reason;
use hutch_core::s3::parse_provider;
use hutch_core::s3::{AllowedEndpoints, S3Credentials};
use hutch_telemetry::{measured, operation};

/// The longest time from the request to a mount that the node component has listed
/// successfully. The mounter itself has 10 s of it.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(12);
/// The longest time from the request to the end of a mount. The mounter first writes
/// back everything.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(15);

/// A bucket as a client wants it mounted.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Name of the bucket at its provider.
    pub bucket: String,
    /// The path of the mount in the sandbox.
    pub path: String,
    /// The directory of the bucket to mount. Unset: the whole bucket.
    pub prefix: Option<String>,
    /// The URL of the S3 service.
    pub endpoint: String,
    /// The provider: `r2`, `s3` or `gcs`. Any other name, or none, means a generic one.
    pub provider: Option<String>,
    /// True if the mount refuses writes.
    pub read_only: bool,
    /// Further options of the mounter.
    pub options: Vec<String>,
    /// The S3 credentials. Unset: those of [`BucketSettings`].
    pub credentials: Option<S3Credentials>,
}

/// The buckets that may be mounted.
#[derive(Clone, Debug, Default)]
pub struct BucketSettings {
    /// The S3 credentials for mounts whose request brings none.
    pub credentials: Option<S3Credentials>,
    /// The endpoints that a bucket may have.
    pub endpoints: AllowedEndpoints,
}

/// Why a bucket was not mounted or unmounted.
#[derive(Debug, Error)]
pub enum BucketError {
    /// The request is not valid, or the path has a mount already.
    #[error("{0}")]
    Invalid(String),
    /// There is no such sandbox, session or mount.
    #[error("{0}")]
    NotFound(String),
    /// The mount is in use. It stays.
    #[error("{0}")]
    Busy(String),
    /// Nothing in the cluster can mount buckets.
    #[error("{0}")]
    Unsupported(String),
    /// The operation was tried and failed. A failed mount was rolled back; after a
    /// failed unmount the bucket is still mounted.
    #[error("{0}")]
    Failed(String),
    /// The service could not do it.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<ResourceError> for BucketError {
    fn from(error: ResourceError) -> Self {
        match error {
            ResourceError::Invalid(text) => Self::Invalid(text),
            error => Self::Service(error.into()),
        }
    }
}

/// Mounts and unmounts the buckets of sandboxes.
pub struct Buckets {
    acquirer: Arc<Acquirer>,
    sessions: Arc<Sessions>,
    sandboxes: Arc<dyn Sandboxes>,
    secrets: Arc<dyn S3Secrets>,
    settings: BucketSettings,
}

impl Buckets {
    /// Makes this part over the sandboxes of one namespace.
    pub fn new(
        acquirer: Arc<Acquirer>,
        sessions: Arc<Sessions>,
        sandboxes: Arc<dyn Sandboxes>,
        secrets: Arc<dyn S3Secrets>,
        settings: BucketSettings,
    ) -> Self {
        Self {
            acquirer,
            sessions,
            sandboxes,
            secrets,
            settings,
        }
    }

    /// Mounts a bucket into an existing sandbox, which is woken for it. The mount is
    /// usable when this returns. Later starts of the sandbox mount it again. Once begun,
    /// the work is finished even if the caller drops the future.
    ///
    /// # Errors
    /// See [`BucketError`]. After an error the mount is rolled back.
    pub async fn mount(
        self: &Arc<Self>,
        target: Target,
        session: Option<&str>,
        mount: Mount,
    ) -> Result<(), BucketError> {
        let credentials = self.credentials(&mount)?;
        if self.settings.endpoints.check(&mount.endpoint).is_err() {
            let text = "Invalid endpoint: https is needed; the operator allows http with --allow-http-buckets";
            return Err(BucketError::Invalid(text.to_owned()));
        }
        let sandbox = self.sandbox_with(&target, session).await?;
        if let Some(there) = bucket_at(&sandbox, &mount.path) {
            let text = format!("{} is mounted already: {}", there.mount_path, there.bucket);
            return Err(BucketError::Invalid(text));
        }
        let span = operation!("mount", sandbox = target.name);
        let this = self.clone();
        join(tokio::spawn(async move {
            let work = this.mount_into(&target, &sandbox, mount, &credentials);
            measured(span, work).await
        }))
        .await
    }

    /// Ends a mount. Everything that was written to it before is in the bucket when this
    /// returns. If the sandbox is asleep, its next start does not mount the bucket.
    ///
    /// # Errors
    /// See [`BucketError`]. After an error the bucket is still mounted.
    pub async fn unmount(self: &Arc<Self>, target: Target, path: &str) -> Result<(), BucketError> {
        let nothing = || BucketError::NotFound(format!("no bucket is mounted at {path}"));
        let sandbox = self.sandbox_of(&target).ok_or_else(nothing)?;
        let bucket = bucket_at(&sandbox, path).ok_or_else(nothing)?.clone();
        let span = operation!("unmount", sandbox = target.name);
        let this = self.clone();
        join(tokio::spawn(async move {
            measured(span, this.unmount_from(&target, &sandbox, &bucket)).await
        }))
        .await
    }

    /// The S3 credentials of a request, or those of the settings.
    fn credentials(&self, mount: &Mount) -> Result<S3Credentials, BucketError> {
        let given = mount.credentials.as_ref();
        let used = given.or(self.settings.credentials.as_ref());
        used.cloned().ok_or_else(|| {
            let text = "Missing credentials: give accessKeyId and secretAccessKey in options.credentials, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the service";
            BucketError::Invalid(text.to_owned())
        })
    }

    /// The sandbox, once it is awake. It and the session must exist.
    async fn sandbox_with(
        &self,
        target: &Target,
        session: Option<&str>,
    ) -> Result<Arc<Sandbox>, BucketError> {
        let missing = || BucketError::NotFound("Sandbox or session not found".to_owned());
        self.sandbox_of(target).ok_or_else(missing)?;
        let sessions = self.sessions.ids(target).await?;
        let known = |id: &str| id == "default" || sessions.iter().any(|other| other == id);
        if !session.is_none_or(known) {
            return Err(missing());
        }
        self.sandbox_of(target).ok_or_else(missing)
    }

    fn sandbox_of(&self, target: &Target) -> Option<Arc<Sandbox>> {
        let sandbox = cache::live(&*self.sandboxes, &target.name)?;
        target.matches(&sandbox).then_some(sandbox)
    }

    async fn mount_into(
        &self,
        target: &Target,
        sandbox: &Sandbox,
        mount: Mount,
        credentials: &S3Credentials,
    ) -> Result<(), BucketError> {
        let _use = self.acquirer.activity.begin(&target.name);
        let deadline = Instant::now() + MOUNT_TIMEOUT;
        let name = names::bucket(&mount.path);
        let secret = self.secrets.create(sandbox, &name, credentials).await?;
        let bucket = spec_entry(name, mount, secret);
        let mounted = match self.sandboxes.add_bucket(&target.name, &bucket).await {
            Ok(true) => self.until_mounted(target, &bucket, deadline).await,
            Ok(false) => {
                // Another request has added its entry first. That entry stays.
                self.delete_secret(sandbox, &bucket.credentials_secret_ref)
                    .await;
                let text = format!("{} is mounted already", bucket.mount_path);
                return Err(BucketError::Invalid(text));
            }
            Err(error) => Err(error.into()),
        };
        if mounted.is_err() {
            self.roll_back(target, sandbox, &bucket).await;
        }
        mounted
    }

    async fn until_mounted(
        &self,
        target: &Target,
        bucket: &Bucket,
        deadline: Instant,
    ) -> Result<(), BucketError> {
        let outcome = || {
            let sandbox = self.sandboxes.get(&target.name)?;
            let status = status_of(&sandbox, &bucket.name)?;
            if status.digest.as_deref() != Some(&buckets::digest(bucket)) {
                return None;
            }
            match status.phase {
                BucketPhase::Mounted => Some(Ok(())),
                _ => status.error.is_some().then(|| Err(mount_error(status))),
            }
        };
        let seconds = MOUNT_TIMEOUT.as_secs();
        cache::until(&*self.sandboxes, deadline, outcome).await.unwrap_or_else(|| {
            Err(BucketError::Failed(format!(
                "the bucket was not mounted within {seconds}s: is `hutch-node` running on the sandbox's node?"
            )))
        })
    }

    async fn unmount_from(
        &self,
        target: &Target,
        sandbox: &Sandbox,
        bucket: &Bucket,
    ) -> Result<(), BucketError> {
        let _use = self.acquirer.activity.begin(&target.name);
        let deadline = Instant::now() + UNMOUNT_TIMEOUT;
        if status_of(sandbox, &bucket.name).is_some_and(unwatched) {
            let text = format!(
                "{} is a volume of the pod, and stays mounted until the pod's next start: hutch-node, which unmounts volumes before, does not run on its node",
                bucket.mount_path
            );
            return Err(BucketError::Unsupported(text));
        }
        self.sandboxes
            .remove_bucket(&target.name, &bucket.name)
            .await?;
        if let Err(error) = self.until_unmounted(target, bucket, deadline).await {
            self.sandboxes.add_bucket(&target.name, bucket).await?;
            return Err(error);
        }
        self.delete_secret(sandbox, &bucket.credentials_secret_ref)
            .await;
        Ok(())
    }

    /// Waits until the status of a sandbox that is awake no longer lists the bucket.
    async fn until_unmounted(
        &self,
        target: &Target,
        bucket: &Bucket,
        deadline: Instant,
    ) -> Result<(), BucketError> {
        let path = &bucket.mount_path;
        let outcome = || {
            let sandbox = self.sandboxes.get(&target.name);
            let awake = sandbox.filter(|it| it.status.as_ref().is_some_and(|s| s.phase.answers()));
            match awake.as_ref().and_then(|it| status_of(it, &bucket.name)) {
                None => Some(Ok(())),
                Some(status) if status.phase == BucketPhase::Busy => {
                    let text = format!(
                        "{path} is in use, and stays mounted: leave the directory, close its files"
                    );
                    Some(Err(BucketError::Busy(text)))
                }
                Some(_) => None,
            }
        };
        let seconds = UNMOUNT_TIMEOUT.as_secs();
        cache::until(&*self.sandboxes, deadline, outcome)
            .await
            .unwrap_or_else(|| {
                Err(BucketError::Failed(format!(
                    "{path} could not be unmounted within {seconds}s, and stays mounted"
                )))
            })
    }

    /// Undoes a mount that failed. If a step fails, the controller finishes the work: it
    /// deletes Secrets that no spec names.
    async fn roll_back(&self, target: &Target, sandbox: &Sandbox, bucket: &Bucket) {
        let removed = self.sandboxes.remove_bucket(&target.name, &bucket.name);
        match removed.await {
            Ok(_) => {
                let deadline = Instant::now() + UNMOUNT_TIMEOUT;
                let _ = self.until_unmounted(target, bucket, deadline).await;
                self.delete_secret(sandbox, &bucket.credentials_secret_ref)
                    .await;
            }
            Err(error) => {
                tracing::warn!(%error, sandbox = target.name, "a failed mount stays in the spec");
            }
        }
    }

    async fn delete_secret(&self, sandbox: &Sandbox, secret: &SecretRef) {
        if let Err(error) = self.secrets.delete(sandbox, secret).await {
            tracing::warn!(%error, secret = secret.name, "keys of a bucket are left");
        }
    }
}

/// Waits for a task. The task runs to its end even if the caller stops waiting.
async fn join(task: tokio::task::JoinHandle<Result<(), BucketError>>) -> Result<(), BucketError> {
    task.await
        .unwrap_or_else(|_| Err(BucketError::Failed("the service is stopping".to_owned())))
}

fn spec_entry(name: String, mount: Mount, secret: SecretRef) -> Bucket {
    let provider = mount.provider.as_deref().and_then(parse_provider);
    Bucket {
        name,
        bucket: mount.bucket,
        prefix: mount.prefix,
        endpoint: mount.endpoint,
        region: None,
        provider: provider.unwrap_or(BucketProvider::Other),
        mount_path: mount.path,
        read_only: mount.read_only,
        options: mount.options,
        credentials_secret_ref: secret,
    }
}

/// The bucket that the spec has at that path.
fn bucket_at<'a>(sandbox: &'a Sandbox, path: &str) -> Option<&'a Bucket> {
    let all = &sandbox.spec.buckets;
    all.iter().find(|bucket| bucket.mount_path == path)
}

fn status_of<'a>(sandbox: &'a Sandbox, bucket: &str) -> Option<&'a BucketStatus> {
    let all = &sandbox.status.as_ref()?.buckets;
    all.iter().find(|status| status.name == bucket)
}

/// True for a CSI volume that no node component checks: only the controller has written
/// its status, so nothing on the node can unmount it.
fn unwatched(status: &BucketStatus) -> bool {
    status.mechanism == Some(Mechanism::Csi) && status.last_check.is_none()
}

/// The error that a client gets for a mount that failed.
fn mount_error(status: &BucketStatus) -> BucketError {
    let text = status.error.clone().unwrap_or_default();
    match status.reason.as_deref().and_then(Reason::parse) {
        Some(Reason::NoMounter) => BucketError::Unsupported(text),
        Some(Reason::InsecureEndpoint | Reason::BadOption | Reason::PathTaken) => {
            BucketError::Invalid(text)
        }
        _ => BucketError::Failed(text),
    }
}

#[cfg(test)]
mod tests;
