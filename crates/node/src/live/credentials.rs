//! Reads a bucket's S3 credentials from the Secret that its entry names. They are read for
//! each mount and not kept.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use hutch_api::{Bucket, labels};
use hutch_core::s3::S3Credentials;
use hutch_kube::apply::{self, Writer};

/// The reason why no credentials were read.
pub enum CredentialsError {
    /// A user must change something first.
    Unusable(String),
    /// The API server returned an error. A retry may succeed.
    Unavailable(apply::Error),
}

/// Reads the credentials of a bucket for the sandbox with this namespace and UID.
///
/// # Errors
/// When the Secret does not exist, belongs to another sandbox, or lacks a key. For a Secret
/// in another namespace, no error reveals whether it exists.
pub async fn read(
    writer: &Writer,
    namespace: &str,
    uid: &str,
    bucket: &Bucket,
) -> Result<S3Credentials, CredentialsError> {
    let reference = &bucket.credentials_secret_ref;
    let home = reference.namespace.as_deref().unwrap_or(namespace);
    let name = &reference.name;
    let elsewhere = home != namespace;
    let secret = match writer.read::<Secret>(home, name).await {
        Ok(secret) => secret.filter(|secret| !elsewhere || is_for(secret, uid)),
        Err(apply::Error::Forbidden(text)) if !elsewhere => {
            return Err(CredentialsError::Unusable(text));
        }
        Err(error) => return Err(CredentialsError::Unavailable(error)),
    };
    let Some(secret) = secret else {
        let why = if elsewhere {
            ", or it is not this sandbox's"
        } else {
            ""
        };
        let text = format!("there is no Secret {name} in the namespace {home}{why}");
        return Err(CredentialsError::Unusable(text));
    };
    let data = secret.data.unwrap_or_default();
    S3Credentials::from_secret(|key| data.get(key).map(|value| value.0.as_slice()))
        .map_err(|error| CredentialsError::Unusable(format!("the Secret {name} {error}")))
}

fn is_for(secret: &Secret, uid: &str) -> bool {
    secret
        .labels()
        .get(labels::SANDBOX_UID)
        .is_some_and(|owner| owner == uid)
}
