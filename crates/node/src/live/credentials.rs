//! The keys of a bucket, from the Secret that its entry names. Read when a mount
//! is made and kept nowhere.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use hutch_api::{Bucket, credentials, labels};
use hutch_core::buckets::Credentials;
use hutch_kube::apply::{self, Writer};

/// Why there are none.
pub enum Refusal {
    /// Somebody has to change something.
    None(String),
    /// The API server does not say.
    Later(apply::Error),
}

/// The keys for a bucket of the sandbox with that namespace and UID.
///
/// # Errors
/// Where there is no such Secret, it may not be used for this sandbox, or it lacks
/// a key. For another namespace than the sandbox's no error tells what is there.
pub async fn read(
    writer: &Writer,
    namespace: &str,
    uid: &str,
    bucket: &Bucket,
) -> Result<Credentials, Refusal> {
    let reference = &bucket.credentials_secret_ref;
    let place = reference.namespace.as_deref().unwrap_or(namespace);
    let name = &reference.name;
    let elsewhere = place != namespace;
    let secret = match writer.read::<Secret>(place, name).await {
        Ok(secret) => secret.filter(|secret| !elsewhere || is_for(secret, uid)),
        Err(apply::Error::Forbidden(text)) if !elsewhere => return Err(Refusal::None(text)),
        Err(error) => return Err(Refusal::Later(error)),
    };
    let Some(secret) = secret else {
        let why = if elsewhere {
            ", or it is not this sandbox's"
        } else {
            ""
        };
        let text = format!("there is no Secret {name} in the namespace {place}{why}");
        return Err(Refusal::None(text));
    };
    let data = secret.data.unwrap_or_default();
    Ok(Credentials {
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

/// A key as the mounter can be told it: on one line, and without the colon that
/// ends the first.
fn key(data: &BTreeMap<String, ByteString>, secret: &str, name: &str) -> Result<String, Refusal> {
    let value = data
        .get(name)
        .map(|value| String::from_utf8_lossy(&value.0));
    let value = value.as_deref().map(str::trim).unwrap_or_default();
    let usable = |c: char| c.is_ascii_graphic() && c != ':';
    match value.is_empty() || !value.chars().all(usable) {
        true => Err(Refusal::None(format!(
            "the Secret {secret} has no usable {name}"
        ))),
        false => Ok(value.to_owned()),
    }
}
