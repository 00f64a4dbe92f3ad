//! Buckets that come and go while a sandbox runs. The spec is the truth: a mount
//! is an entry in it and a Secret with the keys, and done once the status says so.
//! What does not come to pass is taken back.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::target::Target;
use super::{Service, ServiceError};
use hutch_api::{Bucket, BucketPhase, BucketProvider, BucketStatus, Mechanism, Sandbox, SecretRef};
use hutch_core::buckets::{self, Credentials, reasons};
use hutch_core::interfaces::ResourceError;
use hutch_core::names;
use hutch_telemetry::{measured, operation};

/// Longest time from the request to a mount that was listed through; the mount
/// itself has 10 s.
const MOUNT: Duration = Duration::from_secs(12);
/// Longest time from the request to the end of a mount, which writes back first.
const UNMOUNT: Duration = Duration::from_secs(15);

/// A bucket as a client wants it mounted.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Name of the bucket at its provider.
    pub bucket: String,
    /// Where it is to be.
    pub path: String,
    /// The folder of the bucket that is mounted.
    pub prefix: Option<String>,
    /// URL of the S3 service.
    pub endpoint: String,
    /// Whose service it is: `r2`, `s3`, `gcs` or another name.
    pub provider: Option<String>,
    /// Refuses writes.
    pub read_only: bool,
    /// Options of the mounter.
    pub options: Vec<String>,
    /// The keys; the service's own where the client has none.
    pub credentials: Option<Credentials>,
}

/// Why a bucket was not mounted or unmounted.
#[derive(Debug, Error)]
pub enum BucketError {
    /// What was asked for makes no sense here.
    #[error("{0}")]
    Invalid(String),
    /// There is no such sandbox, session or mount.
    #[error("{0}")]
    NotFound(String),
    /// The mount is in use, and stays.
    #[error("{0}")]
    Busy(String),
    /// Nothing in the cluster can mount buckets.
    #[error("{0}")]
    Unsupported(String),
    /// It was tried, and failed; nothing is left of it.
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

impl Service {
    /// Mounts a bucket into a sandbox that exists, which is woken for it. It is
    /// usable when this returns, and comes back whenever the sandbox starts. What
    /// was begun is ended, also when the caller has gone.
    ///
    /// # Errors
    /// See [`BucketError`]; then nothing is left of it.
    pub async fn mount_bucket(
        self: Arc<Self>,
        target: Target,
        session: Option<String>,
        mount: Mount,
    ) -> Result<(), BucketError> {
        let own = self.settings.bucket_credentials.clone();
        let keys = mount.credentials.clone().or(own).ok_or_else(|| {
            let text = "Missing credentials: give accessKeyId and secretAccessKey in options.credentials, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the service";
            BucketError::Invalid(text.to_owned())
        })?;
        if mount.endpoint.starts_with("http:") && !self.settings.allow_http_buckets {
            let text = "Invalid endpoint: https is needed; the operator allows http with --allow-http-buckets";
            return Err(BucketError::Invalid(text.to_owned()));
        }
        let sandbox = self.sandbox_with(&target, session.as_deref()).await?;
        if let Some(there) = at(&sandbox, &mount.path) {
            let text = format!("{} is mounted already: {}", there.mount_path, there.bucket);
            return Err(BucketError::Invalid(text));
        }
        let span = operation!("mount", sandbox = target.name);
        ended(tokio::spawn(async move {
            measured(span, self.mount(&target, &sandbox, mount, &keys)).await
        }))
        .await
    }

    /// Ends a mount; everything that was written to it before is in the bucket. In
    /// a sandbox that sleeps it only does not come back.
    ///
    /// # Errors
    /// See [`BucketError`]; then it is still mounted.
    pub async fn unmount_bucket(
        self: Arc<Self>,
        target: Target,
        path: String,
    ) -> Result<(), BucketError> {
        let nothing = || BucketError::NotFound(format!("no bucket is mounted at {path}"));
        let sandbox = self.sandbox_of(&target).ok_or_else(nothing)?;
        let bucket = at(&sandbox, &path).ok_or_else(nothing)?.clone();
        let span = operation!("unmount", sandbox = target.name);
        ended(tokio::spawn(async move {
            measured(span, self.unmount(&target, &sandbox, &bucket)).await
        }))
        .await
    }

    /// The sandbox, awake, if it and the session exist.
    async fn sandbox_with(
        &self,
        target: &Target,
        session: Option<&str>,
    ) -> Result<Arc<Sandbox>, BucketError> {
        let missing = || BucketError::NotFound("Sandbox or session not found".to_owned());
        self.sandbox_of(target).ok_or_else(missing)?;
        let sessions = self.session_ids(target).await?;
        let known = |id: &str| id == "default" || sessions.iter().any(|other| other == id);
        if !session.is_none_or(known) {
            return Err(missing());
        }
        self.sandbox_of(target).ok_or_else(missing)
    }

    fn sandbox_of(&self, target: &Target) -> Option<Arc<Sandbox>> {
        let sandbox = self.living(&target.name)?;
        target.is(&sandbox).then_some(sandbox)
    }

    async fn mount(
        &self,
        target: &Target,
        sandbox: &Sandbox,
        mount: Mount,
        keys: &Credentials,
    ) -> Result<(), BucketError> {
        let _use = self.activity.begin(&target.name);
        let deadline = Instant::now() + MOUNT;
        let name = names::bucket(&mount.path);
        let secret = self.bucket_keys.keep(sandbox, &name, keys).await?;
        let bucket = entry(name, mount, secret);
        let mounted = match self.sandboxes.add_bucket(&target.name, &bucket).await {
            Ok(true) => self.until_mounted(target, &bucket, deadline).await,
            Ok(false) => {
                // Another request was first, and that one's entry stays.
                self.forget_keys(sandbox, &bucket.credentials_secret_ref)
                    .await;
                let text = format!("{} is mounted already", bucket.mount_path);
                return Err(BucketError::Invalid(text));
            }
            Err(error) => Err(error.into()),
        };
        if mounted.is_err() {
            self.take_back(target, sandbox, &bucket).await;
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
            let status = told(&sandbox, &bucket.name)?;
            if status.digest.as_deref() != Some(&buckets::digest(bucket)) {
                return None;
            }
            match status.phase {
                BucketPhase::Mounted => Some(Ok(())),
                _ => status.error.is_some().then(|| Err(refusal(status))),
            }
        };
        let seconds = MOUNT.as_secs();
        self.until(deadline, outcome).await.unwrap_or_else(|| {
            Err(BucketError::Failed(format!(
                "the bucket was not mounted within {seconds}s: is `hutch node` running on the sandbox's node?"
            )))
        })
    }

    async fn unmount(
        &self,
        target: &Target,
        sandbox: &Sandbox,
        bucket: &Bucket,
    ) -> Result<(), BucketError> {
        let _use = self.activity.begin(&target.name);
        let deadline = Instant::now() + UNMOUNT;
        if told(sandbox, &bucket.name).is_some_and(unwatched) {
            let text = format!(
                "{} is a volume of the pod, and stays mounted until the pod's next start: hutch node, which unmounts volumes before, does not run on its node",
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
        self.forget_keys(sandbox, &bucket.credentials_secret_ref)
            .await;
        Ok(())
    }

    /// Resolves when nothing is told of the bucket any more.
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
            match awake.as_ref().and_then(|it| told(it, &bucket.name)) {
                None => Some(Ok(())),
                Some(status) if status.phase == BucketPhase::Busy => {
                    let text = format!(
                        "{path} is in use, and stays mounted: leave the folder, close its files"
                    );
                    Some(Err(BucketError::Busy(text)))
                }
                Some(_) => None,
            }
        };
        let seconds = UNMOUNT.as_secs();
        self.until(deadline, outcome).await.unwrap_or_else(|| {
            Err(BucketError::Failed(format!(
                "{path} could not be unmounted within {seconds}s, and stays mounted"
            )))
        })
    }

    /// Undoes a mount that failed. What cannot be undone now the controller does:
    /// keys that no spec names are deleted.
    async fn take_back(&self, target: &Target, sandbox: &Sandbox, bucket: &Bucket) {
        let removed = self.sandboxes.remove_bucket(&target.name, &bucket.name);
        match removed.await {
            Ok(_) => {
                let deadline = Instant::now() + UNMOUNT;
                let _ = self.until_unmounted(target, bucket, deadline).await;
                self.forget_keys(sandbox, &bucket.credentials_secret_ref)
                    .await;
            }
            Err(error) => {
                tracing::warn!(%error, sandbox = target.name, "a failed mount stays in the spec");
            }
        }
    }

    async fn forget_keys(&self, sandbox: &Sandbox, secret: &SecretRef) {
        if let Err(error) = self.bucket_keys.forget(sandbox, secret).await {
            tracing::warn!(%error, secret = secret.name, "keys of a bucket are left");
        }
    }
}

/// The outcome of a task that goes on when nobody waits for it.
async fn ended(task: tokio::task::JoinHandle<Result<(), BucketError>>) -> Result<(), BucketError> {
    task.await
        .unwrap_or_else(|_| Err(BucketError::Failed("the service is stopping".to_owned())))
}

fn entry(name: String, mount: Mount, secret: SecretRef) -> Bucket {
    Bucket {
        name,
        bucket: mount.bucket,
        prefix: mount.prefix,
        endpoint: mount.endpoint,
        region: None,
        provider: match mount.provider.as_deref() {
            Some("r2") => BucketProvider::R2,
            Some("s3") => BucketProvider::S3,
            Some("gcs") => BucketProvider::Gcs,
            _ => BucketProvider::Other,
        },
        mount_path: mount.path,
        read_only: mount.read_only,
        options: mount.options,
        credentials_secret_ref: secret,
    }
}

/// The bucket that the spec has at that path.
fn at<'a>(sandbox: &'a Sandbox, path: &str) -> Option<&'a Bucket> {
    let all = &sandbox.spec.buckets;
    all.iter().find(|bucket| bucket.mount_path == path)
}

fn told<'a>(sandbox: &'a Sandbox, bucket: &str) -> Option<&'a BucketStatus> {
    let all = &sandbox.status.as_ref()?.buckets;
    all.iter().find(|status| status.name == bucket)
}

/// Whether it is a volume that the controller alone speaks of: nobody looks at it.
fn unwatched(status: &BucketStatus) -> bool {
    status.mechanism == Some(Mechanism::Csi) && status.last_check.is_none()
}

/// What a client is told of a mount that did not come to pass.
fn refusal(status: &BucketStatus) -> BucketError {
    let text = status.error.clone().unwrap_or_default();
    match status.reason.as_deref() {
        Some(reasons::NO_MOUNTER) => BucketError::Unsupported(text),
        Some(reasons::INSECURE | reasons::BAD_OPTION | reasons::PATH_TAKEN) => {
            BucketError::Invalid(text)
        }
        _ => BucketError::Failed(text),
    }
}
