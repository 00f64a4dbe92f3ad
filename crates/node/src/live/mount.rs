//! Mounts one bucket of a sandbox in its running container.

use super::Live;
use super::attempt::MountHistory;
use super::credentials::{self, CredentialsError};
use super::id::MountId;
use super::status::{BucketFailure, Observation};
use crate::container::Container;
use crate::mounts::{InUse, Rekeyed};
use crate::{Error, MountTarget, Source};
use hutch_api::{Bucket, BucketPhase};
use hutch_core::reasons::Reason;
use hutch_core::s3::EndpointError;

/// The reason why a bucket is not mounted.
pub enum Failure {
    /// The container has ended. Nothing is reported.
    Gone,
    /// The observation to report.
    Observed(Observation),
}

impl Live {
    /// Mounts the bucket if it is not mounted yet. `history` is from before this attempt.
    pub(super) async fn mount(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
        history: MountHistory,
    ) -> Result<(), Failure> {
        let source = self.source(id, bucket, container).await?;
        let (mounts, name) = (&self.0.mounts, id.to_string());
        let mounted = async {
            mounts.ensure(&name, &source).await?;
            mounts.attach(&name, &target(bucket, container)).await
        };
        match mounted.await {
            Ok(()) => {
                tracing::info!(%id, "mounted");
                self.0.health.answered(&name);
                Ok(())
            }
            Err(error) => {
                self.clean_up(&name, &error, history).await;
                Err(match error {
                    Error::Gone => Failure::Gone,
                    error => Failure::Observed(Observation::not_mounted(&error, history)),
                })
            }
        }
    }

    /// Replaces a mounted bucket's credentials with those that its Secret has now. Returns
    /// the reason if the Secret has others that are not used.
    pub(super) async fn rekey(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
        in_use: InUse,
    ) -> Option<BucketFailure> {
        match self.try_rekey(id, bucket, container, in_use).await {
            Ok(Rekeyed::Replaced) => {
                tracing::info!(%id, "goes on with the Secret's new keys");
                self.0.health.answered(&id.to_string());
                None
            }
            Ok(Rekeyed::Unchanged) | Err(Failure::Gone) => None,
            Err(Failure::Observed(observed)) if observed.reason() == Some(Reason::Busy) => {
                tracing::debug!(%id, "new keys wait until the mount is not in use");
                None
            }
            Err(Failure::Observed(observed)) => {
                let BucketFailure { reason, text } = observed.failure?;
                let text = format!("it goes on with the keys that it has: {text}");
                Some(BucketFailure { reason, text })
            }
        }
    }

    async fn try_rekey(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
        in_use: InUse,
    ) -> Result<Rekeyed, Failure> {
        let source = self.source(id, bucket, container).await?;
        let (mounts, name) = (&self.0.mounts, id.to_string());
        let rekeyed = async {
            let rekeyed = mounts.rekey(&name, &source, in_use).await?;
            if rekeyed == Rekeyed::Replaced {
                mounts.attach(&name, &target(bucket, container)).await?;
            }
            Ok(rekeyed)
        };
        rekeyed.await.map_err(|error| match error {
            Error::Gone => Failure::Gone,
            Error::Busy(_) => Failure::Observed(Observation::busy(&error)),
            error => {
                let history = MountHistory::MountedBefore;
                Failure::Observed(Observation::not_mounted(&error, history))
            }
        })
    }

    /// The source of the mount, with the credentials that the Secret has now.
    async fn source(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
    ) -> Result<Source, Failure> {
        self.0
            .settings
            .endpoints
            .check(&bucket.endpoint)
            .map_err(|error| {
                let (reason, text) = match error {
                    EndpointError::Insecure => (
                        Reason::InsecureEndpoint,
                        "http endpoints are not allowed here",
                    ),
                    EndpointError::Malformed => (
                        Reason::BadOption,
                        "the endpoint is not a URL such as https://s3.example.com",
                    ),
                };
                refused(BucketPhase::Failed, reason, text.to_owned())
            })?;
        let namespace = &id.key.namespace;
        let keys = credentials::read(&self.0.writer, namespace, &id.uid, bucket).await;
        let credentials = keys.map_err(|error| match error {
            CredentialsError::Unusable(text) => {
                refused(BucketPhase::Failed, Reason::NoCredentials, text)
            }
            CredentialsError::Unavailable(error) => {
                let text = format!("the Secret cannot be read: {error}");
                refused(BucketPhase::Pending, Reason::NoCredentials, text)
            }
        })?;
        Ok(Source::of_bucket(bucket, credentials, container.user))
    }

    /// Removes a failed mount that has never been in this container.
    async fn clean_up(&self, name: &str, error: &Error, history: MountHistory) {
        let stays =
            history == MountHistory::MountedBefore || matches!(error, Error::Busy(_) | Error::Gone);
        if !stays && let Err(error) = self.0.mounts.close(name).await {
            tracing::warn!(id = name, %error, "a failed mount is not removed");
        }
    }
}

fn target(bucket: &Bucket, container: Container) -> MountTarget {
    MountTarget::Container {
        process: container.init,
        path: (&bucket.mount_path).into(),
    }
}

fn refused(phase: BucketPhase, reason: Reason, text: String) -> Failure {
    Failure::Observed(Observation::failure(phase, reason, text))
}
