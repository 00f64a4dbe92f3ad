//! Reads a volume's Secret and builds the mount's source from it. Only the Secret contains
//! the endpoint and the S3 credentials. Error texts name the Secret's keys and never their
//! values.

use std::collections::HashMap;

use super::error::VolumeError;
use super::volume::{InvalidVolume, Volume};
use crate::{Owner, Source};
use hutch_api::{BucketProvider, credentials};
use hutch_core::buckets::S3Credentials;

const MAX_VALUE_BYTES: usize = 1024;

/// Builds the source of a volume's mount.
///
/// # Errors
/// When credentials or the endpoint are missing, empty or malformed, or when the endpoint
/// has no TLS and `allow_http` is false.
pub(super) fn source(
    volume: Volume,
    secrets: &HashMap<String, String>,
    allow_http: bool,
) -> Result<Source, VolumeError> {
    let endpoint = value(secrets, credentials::ENDPOINT)?;
    checked(endpoint, allow_http)?;
    let region = match secrets.get(credentials::REGION).map(|text| text.trim()) {
        None | Some("") => None,
        Some(_) => Some(value(secrets, credentials::REGION)?.to_owned()),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !region
        .iter()
        .all(|region: &String| region.chars().all(word))
    {
        return Err(InvalidVolume::of("the Secret's region is none").into());
    }
    let mut options = volume.options;
    if let Some(umask) = volume.umask {
        options.push(format!("umask={umask:04o}"));
        if !options.iter().any(|option| option.starts_with("mp_umask")) {
            options.push(format!("mp_umask={umask:04o}"));
        }
    }
    Ok(Source {
        endpoint: endpoint.to_owned(),
        region,
        bucket: volume.bucket,
        prefix: volume.prefix.map(|prefix| format!("/{prefix}")),
        // A volume names no provider. The controller writes the provider's options into the
        // volume's options.
        provider: BucketProvider::Other,
        read_only: volume.read_only,
        options,
        credentials: S3Credentials {
            access_key_id: value(secrets, credentials::ACCESS_KEY_ID)?.to_owned(),
            secret_access_key: value(secrets, credentials::SECRET_ACCESS_KEY)?.to_owned(),
        },
        owner: Owner {
            uid: volume.uid.unwrap_or(0),
            gid: volume.gid.unwrap_or(0),
        },
    })
}

/// A required value of one line. It is trimmed, because a value made with `echo` ends in a
/// newline.
fn value<'a>(secrets: &'a HashMap<String, String>, key: &str) -> Result<&'a str, InvalidVolume> {
    let text = secrets.get(key).map_or("", |text| text.trim());
    if text.is_empty() {
        return Err(InvalidVolume::of(format!(
            "the volume's Secret (nodeStageSecretRef and nodePublishSecretRef) has no `{key}`: it needs {}, {} and {}",
            credentials::ACCESS_KEY_ID,
            credentials::SECRET_ACCESS_KEY,
            credentials::ENDPOINT,
        )));
    }
    let plain = |c: char| c.is_ascii_graphic() && !(key == credentials::ACCESS_KEY_ID && c == ':');
    if text.len() > MAX_VALUE_BYTES || !text.chars().all(plain) {
        return Err(InvalidVolume::of(format!(
            "the `{key}` in the volume's Secret has characters that none has, or too many"
        )));
    }
    Ok(text)
}

/// Checks that the endpoint is a URL that may be used.
fn checked(endpoint: &str, allow_http: bool) -> Result<(), VolumeError> {
    let uri = endpoint.parse::<http::Uri>().ok();
    let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let whole = |uri: &http::Uri| uri.query().is_none() && !endpoint.contains(['@', ',', '\\']);
    if host.is_empty() || !uri.as_ref().is_some_and(whole) {
        return Err(InvalidVolume::of(
            "the Secret's endpoint is no URL such as https://s3.example.com",
        )
        .into());
    }
    match scheme {
        Some("https") => Ok(()),
        Some("http") if allow_http => Ok(()),
        Some("http") => Err(VolumeError::Insecure(format!(
            "{endpoint} is http, over which keys and data are open to all; use https, or start hutch-node with --allow-http-buckets"
        ))),
        _ => Err(InvalidVolume::of("the Secret's endpoint is neither https nor http").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let mut all: HashMap<String, String> = [
            (credentials::ACCESS_KEY_ID, "AKIA"),
            (credentials::SECRET_ACCESS_KEY, "hidden/+="),
            (credentials::ENDPOINT, "https://s3.example.com:9000/base"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for (key, value) in pairs {
            all.insert((*key).to_owned(), (*value).to_owned());
        }
        all
    }

    fn read(pairs: &[(&str, &str)], allow_http: bool) -> Result<Source, VolumeError> {
        let volume = Volume {
            bucket: "my-bucket".into(),
            prefix: Some("a/b".into()),
            umask: Some(0o027),
            uid: Some(1000),
            ..Volume::default()
        };
        source(volume, &secrets(pairs), allow_http)
    }

    #[test]
    fn volume_and_secret_make_a_mount() {
        let source = read(&[(credentials::REGION, "eu-1\n")], false).unwrap();
        assert_eq!(source.prefix.as_deref(), Some("/a/b"));
        assert_eq!(source.region.as_deref(), Some("eu-1"));
        assert_eq!(source.options, ["umask=0027", "mp_umask=0027"]);
        assert_eq!((source.owner.uid, source.owner.gid), (1000, 0));
        assert_eq!(source.credentials.secret_access_key, "hidden/+=");
    }

    #[test]
    fn errors_name_the_secrets_keys_and_never_their_values() {
        for (key, wrong) in [
            (credentials::ACCESS_KEY_ID, ""),
            (credentials::ACCESS_KEY_ID, "a:b-leak"),
            (credentials::SECRET_ACCESS_KEY, " \n"),
            (credentials::SECRET_ACCESS_KEY, "one\ntwo-leak"),
            (credentials::ENDPOINT, ""),
            (credentials::ENDPOINT, "s3-leak.example.com"),
            (credentials::ENDPOINT, "ftp://leak"),
            (credentials::ENDPOINT, "https://user:leak@s3"),
            (credentials::ENDPOINT, "https://s3/?leak"),
            (credentials::ENDPOINT, "https://s3,passwd_file=leak"),
            (credentials::REGION, "eu,leak"),
        ] {
            let text = read(&[(key, wrong)], true).unwrap_err().to_string();
            assert!(!text.contains("leak"), "{text}");
        }
    }

    #[test]
    fn an_endpoint_without_tls_needs_permission() {
        let plain = [(credentials::ENDPOINT, "http://10.0.0.1:7070")];
        assert!(read(&plain, true).is_ok());
        let text = read(&plain, false).unwrap_err().to_string();
        assert!(text.contains("--allow-http-buckets"), "{text}");
    }
}
