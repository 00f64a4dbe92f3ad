//! One model of an S3 bucket for the controllers, the node component and the facade:
//! which endpoints are allowed, which credentials are usable, and which options a provider
//! needs.

use std::fmt;

use hutch_api::{BucketProvider, credentials};
use serde::Serialize;
use thiserror::Error;

/// Attribute of a CSI volume that names the bucket's provider, as
/// [`provider_name`] writes it. The controllers write it and the node component reads it. A
/// volume without it has the provider [`BucketProvider::Other`].
pub const PROVIDER_ATTRIBUTE: &str = "provider";

/// Longest access key ID, secret access key and endpoint, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

/// The access key and the secret key of a bucket. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct S3Credentials {
    /// The access key ID.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Credentials(***)")
    }
}

/// A key of a Secret that has no usable value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("has no usable {0}")]
pub struct UnusableKey(pub &'static str);

impl S3Credentials {
    /// Reads both values of a Secret. `value` returns the bytes of a key.
    ///
    /// # Errors
    /// The key whose value is missing or unusable.
    pub fn from_secret<'a>(
        value: impl Fn(&'static str) -> Option<&'a [u8]>,
    ) -> Result<Self, UnusableKey> {
        let read = |key: &'static str| {
            let text = value(key).and_then(usable).ok_or(UnusableKey(key))?;
            Ok(text.to_owned())
        };
        Ok(Self {
            access_key_id: read(credentials::ACCESS_KEY_ID)?,
            secret_access_key: read(credentials::SECRET_ACCESS_KEY)?,
        })
    }
}

/// A value as the credentials file of s3fs allows it: one line of printable ASCII without a
/// colon, which separates the two values there. It is trimmed, because a value made with
/// `echo` ends in a newline.
fn usable(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let plain = |c: char| c.is_ascii_graphic() && c != ':';
    let fits = !text.is_empty() && text.len() <= MAX_VALUE_BYTES && text.chars().all(plain);
    fits.then_some(text)
}

/// The endpoints that the settings allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowedEndpoints {
    /// `https` only.
    #[default]
    Https,
    /// `http` as well: keys and data can be read on their way.
    HttpAndHttps,
}

/// The reason why an endpoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// It is no URL of the form that `spec.buckets[].endpoint` allows.
    Malformed,
    /// It uses `http` and the settings do not allow that.
    Insecure,
}

impl AllowedEndpoints {
    /// The endpoints that the setting `--allow-http-buckets` allows.
    pub const fn with_http(allow_http: bool) -> Self {
        if allow_http {
            Self::HttpAndHttps
        } else {
            Self::Https
        }
    }

    /// Checks an endpoint such as `https://s3.example.com:9000/base`.
    ///
    /// # Errors
    /// The reason why it cannot be used.
    pub fn check(self, endpoint: &str) -> Result<(), EndpointError> {
        let (scheme, rest) = endpoint.split_once("://").ok_or(EndpointError::Malformed)?;
        if !is_authority_and_path(rest) || endpoint.len() > MAX_VALUE_BYTES {
            return Err(EndpointError::Malformed);
        }
        match (scheme, self) {
            ("https", _) | ("http", Self::HttpAndHttps) => Ok(()),
            ("http", Self::Https) => Err(EndpointError::Insecure),
            _ => Err(EndpointError::Malformed),
        }
    }
}

/// The rule of `spec.buckets[].endpoint` after its `://`: no user, query or fragment, and no
/// character that means something in a list of mount options.
fn is_authority_and_path(text: &str) -> bool {
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'[';
    let in_authority = |byte: u8| first(byte) || b".:]_-".contains(&byte);
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"._~/-".contains(&byte);
    authority.bytes().next().is_some_and(first)
        && authority.bytes().all(in_authority)
        && path.bytes().all(in_path)
}

/// The name of a provider in specs and volume attributes.
pub const fn provider_name(provider: BucketProvider) -> &'static str {
    match provider {
        BucketProvider::R2 => "r2",
        BucketProvider::S3 => "s3",
        BucketProvider::Gcs => "gcs",
        BucketProvider::Other => "other",
    }
}

/// The provider with that name.
pub fn parse_provider(name: &str) -> Option<BucketProvider> {
    use BucketProvider::{Gcs, Other, R2, S3};
    [R2, S3, Gcs, Other]
        .into_iter()
        .find(|provider| provider_name(*provider) == name)
}

/// The options of s3fs that a provider needs, by default.
pub const fn provider_options(provider: BucketProvider) -> &'static [&'static str] {
    match provider {
        BucketProvider::S3 => &[],
        // s3fs's mixed uploads need UploadPartCopy, which R2 does not support.
        BucketProvider::R2 => &["nomixupload"],
        BucketProvider::Gcs | BucketProvider::Other => &["use_path_request_style"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: &str, secret: &str) -> Result<S3Credentials, UnusableKey> {
        S3Credentials::from_secret(|key| {
            let value = if key == credentials::ACCESS_KEY_ID {
                id
            } else {
                secret
            };
            Some(value.as_bytes())
        })
    }

    #[test]
    fn credentials_are_single_lines_without_a_colon() {
        let good = read("AKIA\n", " hidden/+= ").unwrap();
        assert_eq!(good.access_key_id, "AKIA");
        assert_eq!(good.secret_access_key, "hidden/+=");
        let id = UnusableKey(credentials::ACCESS_KEY_ID);
        for bad in ["", " \n", "a:b", "a b", "a\nb", "ä", &"a".repeat(1025)] {
            assert_eq!(read(bad, "x"), Err(id), "{bad:?}");
            assert!(read("x", bad).is_err(), "{bad:?}");
        }
        let missing = S3Credentials::from_secret(|_| None);
        assert_eq!(missing, Err(id));
        assert!(S3Credentials::from_secret(|_| Some(b"\xff")).is_err());
    }

    #[test]
    fn no_debug_output_has_a_credential() {
        let shown = format!("{:?}", read("AKIA", "hidden").unwrap());
        assert!(!shown.contains("AKIA") && !shown.contains("hidden"));
    }

    #[test]
    fn an_http_endpoint_needs_permission() {
        let (strict, open) = (AllowedEndpoints::Https, AllowedEndpoints::HttpAndHttps);
        for good in [
            "https://s3.example.com",
            "https://s3.example.com:9000/base/",
            "https://[::1]:9000",
        ] {
            assert_eq!(strict.check(good), Ok(()), "{good}");
        }
        let plain = "http://10.0.0.1:7070";
        assert_eq!(open.check(plain), Ok(()));
        assert_eq!(strict.check(plain), Err(EndpointError::Insecure));
        for bad in [
            "",
            "s3.example.com",
            "ftp://s3",
            "HTTP://s3",
            "https://",
            "https:///x",
            "https://user:x@s3",
            "https://s3/?x",
            "https://s3/#x",
            "https://s3,passwd_file=x",
            "https://s3\\,x",
            "https://s3 x",
        ] {
            assert_eq!(open.check(bad), Err(EndpointError::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_provider_has_the_name_that_specs_use() {
        for provider in [
            BucketProvider::R2,
            BucketProvider::S3,
            BucketProvider::Gcs,
            BucketProvider::Other,
        ] {
            let name = provider_name(provider);
            assert_eq!(serde_json::to_value(provider).unwrap(), name);
            assert_eq!(parse_provider(name), Some(provider));
        }
        assert_eq!(parse_provider("S3"), None);
    }
}
