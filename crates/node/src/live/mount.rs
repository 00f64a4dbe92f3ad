//! Mounts one bucket of a sandbox in its running container.

use super::Live;
use super::attempt::AttemptState;
use super::credentials::{self, CredentialsError};
use super::id::MountId;
use super::status::Observation;
use crate::container::Container;
use crate::mounts::InUse;
use crate::{Error, Place, Source};
use hutch_api::{Bucket, BucketPhase};
use hutch_core::buckets::reasons;

/// The reason why a bucket is not mounted.
pub enum Failure {
    /// The container has ended. Nothing is reported.
    Gone,
    /// The observation to report.
    Observed(Observation),
}

impl Live {
    /// Mounts the bucket if it is not mounted yet. `before` is the state before this attempt.
    pub(super) async fn mount(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
        before: AttemptState,
    ) -> Result<(), Failure> {
        let source = self.source(id, bucket, container).await?;
        let (mounts, name) = (&self.0.mounts, id.to_string());
        let mounted = async {
            mounts.ensure(&name, &source).await?;
            mounts.attach(&name, &place(bucket, container)).await
        };
        match mounted.await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.clean_up(&name, &error, before).await;
                Err(match error {
                    Error::Gone => Failure::Gone,
                    error => Failure::Observed(Observation::not_mounted(&error, before)),
                })
            }
        }
    }

    /// Replaces a mounted bucket's credentials with those that its Secret has now. Returns
    /// `false` if they are the same.
    pub(super) async fn renew(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
        in_use: InUse,
    ) -> Result<bool, Failure> {
        let source = self.source(id, bucket, container).await?;
        let (mounts, name) = (&self.0.mounts, id.to_string());
        let renewed = async {
            let renewed = mounts.rekey(&name, &source, in_use).await?;
            if renewed {
                mounts.attach(&name, &place(bucket, container)).await?;
            }
            Ok(renewed)
        };
        renewed.await.map_err(|error| match error {
            Error::Gone => Failure::Gone,
            Error::Busy(_) => Failure::Observed(Observation::busy(&error)),
            error => Failure::Observed(Observation::not_mounted(&error, AttemptState::Mounted)),
        })
    }

    /// The source of the mount, with the credentials that the Secret has now.
    async fn source(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
    ) -> Result<Source, Failure> {
        if bucket.endpoint.starts_with("http://") && !self.0.settings.allow_http {
            let text = "http endpoints are not allowed here".to_owned();
            return Err(refused(BucketPhase::Failed, reasons::INSECURE, text));
        }
        let namespace = &id.key.namespace;
        let keys = credentials::read(&self.0.writer, namespace, &id.uid, bucket).await;
        let credentials = keys.map_err(|error| match error {
            CredentialsError::Unusable(text) => {
                refused(BucketPhase::Failed, reasons::NO_CREDENTIALS, text)
            }
            CredentialsError::Unavailable(error) => {
                let text = format!("the Secret cannot be read: {error}");
                refused(BucketPhase::Pending, reasons::NO_CREDENTIALS, text)
            }
        })?;
        Ok(Source {
            endpoint: bucket.endpoint.clone(),
            region: bucket.region.clone(),
            bucket: bucket.bucket.clone(),
            prefix: bucket.prefix.clone(),
            provider: bucket.provider,
            read_only: bucket.read_only,
            options: bucket.options.clone(),
            credentials,
            owner: container.user,
        })
    }

    /// Removes a failed mount that has never been in this container.
    async fn clean_up(&self, name: &str, error: &Error, before: AttemptState) {
        let stays = before.was_mounted() || matches!(error, Error::Busy(_) | Error::Gone);
        if !stays && let Err(error) = self.0.mounts.close(name).await {
            tracing::warn!(id = name, %error, "a failed mount leaves something");
        }
    }
}

fn place(bucket: &Bucket, container: Container) -> Place {
    Place::Container {
        process: container.init,
        path: (&bucket.mount_path).into(),
    }
}

fn refused(phase: BucketPhase, reason: &str, text: String) -> Failure {
    Failure::Observed(Observation::failure(phase, reason, text))
}
