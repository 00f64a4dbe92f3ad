//! Reads a bucket's S3 credentials from the Secret that its entry names. They are read for
//! each mount and not kept.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use hutch_api::{Bucket, credentials, labels};
use hutch_core::buckets::S3Credentials;
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
    let place = reference.namespace.as_deref().unwrap_or(namespace);
    let name = &reference.name;
    let elsewhere = place != namespace;
    let secret = match writer.read::<Secret>(place, name).await {
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
        let text = format!("there is no Secret {name} in the namespace {place}{why}");
        return Err(CredentialsError::Unusable(text));
    };
    let data = secret.data.unwrap_or_default();
    Ok(S3Credentials {
        access_key_id: key(&data, name, credentials::ACCESS_KEY_ID)?,
        secret_access_key: key(&data, name, credentials::SECRET_ACCESS_KEY)?,
    })
}

fn is_for(secret: &Secret, uid: &str) -> bool {
    secret
        .labels()
        .get(labels::SANDBOX_UID)
        .is_some_and(|owner| owner == uid)
}

/// A key in the form that the mounter's credentials file allows: one line without a colon,
/// because a colon separates the two keys there.
fn key(
    data: &BTreeMap<String, ByteString>,
    secret: &str,
    name: &str,
) -> Result<String, CredentialsError> {
    let value = data
        .get(name)
        .map(|value| String::from_utf8_lossy(&value.0));
    let value = value.as_deref().map(str::trim).unwrap_or_default();
    let usable = |c: char| c.is_ascii_graphic() && c != ':';
    if value.is_empty() || !value.chars().all(usable) {
        return Err(CredentialsError::Unusable(format!(
            "the Secret {secret} has no usable {name}"
        )));
    }
    Ok(value.to_owned())
}
