//! One bucket of a sandbox into its running container.

use super::Live;
use super::credentials::{self, Refusal};
use super::id::MountId;
use super::status::Seen;
use crate::container::Container;
use crate::{Error, Place, Source};
use hutch_api::{Bucket, BucketPhase};
use hutch_core::buckets::reasons;

/// Why a bucket is not mounted.
pub enum Failure {
    /// The container has ended: there is nothing to say of it.
    Gone,
    /// This is to be said.
    Seen(Seen),
}

impl Live {
    /// Mounts the bucket, if it is not mounted yet; `was` says whether it has been
    /// in this container.
    pub(super) async fn mount(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
        was: bool,
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
                self.clear(&name, &error, was).await;
                Err(match error {
                    Error::Gone => Failure::Gone,
                    error => Failure::Seen(Seen::failed(&error, was)),
                })
            }
        }
    }

    /// Has a mounted bucket go on with the keys that its Secret has now; `false` where
    /// they are the same.
    pub(super) async fn renew(
        &self,
        id: &MountId,
        bucket: &Bucket,
        container: Container,
        in_use: bool,
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
            Error::Busy(_) => Failure::Seen(Seen::busy(&error)),
            error => Failure::Seen(Seen::failed(&error, true)),
        })
    }

    /// What is to be mounted, with the keys that the Secret has now.
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
        let credentials = keys.map_err(|refusal| match refusal {
            Refusal::None(text) => refused(BucketPhase::Failed, reasons::NO_CREDENTIALS, text),
            Refusal::Later(error) => {
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

    /// Leaves nothing of a mount that has never come into this container.
    async fn clear(&self, name: &str, error: &Error, was: bool) {
        let stays = was || matches!(error, Error::Busy(_) | Error::Gone);
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
    Failure::Seen(Seen::wrong(phase, reason, text))
}
