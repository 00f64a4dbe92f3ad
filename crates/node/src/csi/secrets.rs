//! Reads a volume's Secret and builds the mount's source from it. Only the Secret contains
//! the endpoint and the S3 credentials. Error texts name the Secret's keys and never their
//! values.

use std::collections::HashMap;

use super::error::VolumeError;
use super::volume::{InvalidVolume, Volume};
use crate::{Owner, Source};
use hutch_api::credentials;
use hutch_core::s3::{AllowedEndpoints, EndpointError, S3Credentials, UnusableKey};

/// Builds the source of a volume's mount.
///
/// # Errors
/// When credentials or the endpoint are missing, empty or malformed, or when the endpoint
/// is not allowed.
pub(super) fn source(
    volume: Volume,
    secrets: &HashMap<String, String>,
    endpoints: AllowedEndpoints,
) -> Result<Source, VolumeError> {
    let endpoint = endpoint(secrets, endpoints)?;
    let credentials =
        S3Credentials::from_secret(|key| secrets.get(key).map(|text| text.as_bytes()));
    let credentials = credentials.map_err(|UnusableKey(key)| unusable(secrets, key))?;
    let mut options = volume.options;
    if let Some(umask) = volume.umask {
        options.push(format!("umask={umask:04o}"));
        if !options.iter().any(|option| option.starts_with("mp_umask")) {
            options.push(format!("mp_umask={umask:04o}"));
        }
    }
    Ok(Source {
        endpoint,
        region: region(secrets)?,
        bucket: volume.bucket,
        prefix: volume.prefix.map(|prefix| format!("/{prefix}")),
        provider: volume.provider,
        read_only: volume.read_only,
        options,
        credentials,
        owner: Owner {
            uid: volume.uid.unwrap_or(0),
            gid: volume.gid.unwrap_or(0),
        },
    })
}

/// The value of a key without white space around it, because a value made with `echo` ends in
/// a newline.
fn trimmed<'a>(secrets: &'a HashMap<String, String>, key: &str) -> &'a str {
    secrets.get(key).map_or("", |text| text.trim())
}

fn endpoint(
    secrets: &HashMap<String, String>,
    allowed: AllowedEndpoints,
) -> Result<String, VolumeError> {
    let endpoint = trimmed(secrets, credentials::ENDPOINT);
    if endpoint.is_empty() {
        return Err(unusable(secrets, credentials::ENDPOINT).into());
    }
    match allowed.check(endpoint) {
        Ok(()) => Ok(endpoint.to_owned()),
        Err(EndpointError::Insecure) => Err(VolumeError::Insecure(format!(
            "{endpoint} is http, so keys and data can be read on their way; use https, or start hutch-node with --allow-http-buckets"
        ))),
        Err(EndpointError::Malformed) => {
            let text = "the Secret's endpoint is not a URL such as https://s3.example.com";
            Err(InvalidVolume::of(text).into())
        }
    }
}

/// The region, which is optional.
fn region(secrets: &HashMap<String, String>) -> Result<Option<String>, InvalidVolume> {
    let region = trimmed(secrets, credentials::REGION);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !region.chars().all(plain) {
        return Err(InvalidVolume::of("the Secret's region is not a valid name"));
    }
    Ok((!region.is_empty()).then(|| region.to_owned()))
}

/// The error for a key that is missing or has an unusable value.
fn unusable(secrets: &HashMap<String, String>, key: &str) -> InvalidVolume {
    InvalidVolume::of(if trimmed(secrets, key).is_empty() {
        format!(
            "the volume's Secret (nodeStageSecretRef and nodePublishSecretRef) has no `{key}`: it needs {}, {} and {}",
            credentials::ACCESS_KEY_ID,
            credentials::SECRET_ACCESS_KEY,
            credentials::ENDPOINT,
        )
    } else {
        format!(
            "the `{key}` in the volume's Secret is unusable: it has white space or other special characters, or more than 1024 bytes"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::s3fs::S3fs;
    use hutch_api::{Bucket, BucketProvider, SecretRef};
    use hutch_core::buckets;
    use hutch_core::s3::{PROVIDER_ATTRIBUTE, provider_name, provider_options};

    const HTTP: AllowedEndpoints = AllowedEndpoints::HttpAndHttps;
    const HTTPS: AllowedEndpoints = AllowedEndpoints::Https;

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

    fn read(pairs: &[(&str, &str)], endpoints: AllowedEndpoints) -> Result<Source, VolumeError> {
        let volume = Volume {
            bucket: "my-bucket".into(),
            prefix: Some("a/b".into()),
            umask: Some(0o027),
            uid: Some(1000),
            ..Volume::default()
        };
        source(volume, &secrets(pairs), endpoints)
    }

    #[test]
    fn volume_and_secret_make_a_mount() {
        let source = read(&[(credentials::REGION, "eu-1\n")], HTTPS).unwrap();
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
            let text = read(&[(key, wrong)], HTTP).unwrap_err().to_string();
            assert!(!text.contains("leak"), "{text}");
        }
    }

    #[test]
    fn an_endpoint_without_tls_needs_permission() {
        let plain = [(credentials::ENDPOINT, "http://10.0.0.1:7070")];
        assert!(read(&plain, HTTP).is_ok());
        let text = read(&plain, HTTPS).unwrap_err().to_string();
        assert!(text.contains("--allow-http-buckets"), "{text}");
    }

    fn bucket(provider: BucketProvider) -> Bucket {
        Bucket {
            name: "data".into(),
            bucket: "my-bucket".into(),
            prefix: Some("/a/b/".into()),
            endpoint: "https://s3.example.com".into(),
            region: Some("eu-1".into()),
            provider,
            mount_path: "/mnt/data".into(),
            read_only: true,
            options: vec!["multipart_size=64".into()],
            credentials_secret_ref: SecretRef {
                name: "keys".into(),
                namespace: None,
            },
        }
    }

    /// The arguments of s3fs without their order. The umask of a volume is not compared: the
    /// controllers set it for volumes only.
    fn arguments(source: &Source) -> BTreeSet<String> {
        let (point, key_file) = (Path::new("/point"), Path::new("/keys"));
        let command = S3fs::default().command(source, "label", point, key_file);
        let mut arguments: BTreeSet<_> = command.unwrap().into_iter().collect();
        arguments.remove("umask=0022");
        arguments
    }

    fn live(bucket: &Bucket) -> BTreeSet<String> {
        let secrets = secrets(&[]);
        let credentials = S3Credentials::from_secret(|key| Some(secrets.get(key)?.as_bytes()));
        let owner = Owner {
            uid: 1000,
            gid: 1000,
        };
        arguments(&Source::of_bucket(bucket, credentials.unwrap(), owner))
    }

    /// The same bucket as a volume with the options of the spec and `more`.
    fn as_volume(bucket: &Bucket, more: &[&str]) -> BTreeSet<String> {
        let mut options = vec!["uid=1000", "gid=1000", "umask=0022", "ro"];
        options.extend(more);
        options.extend(bucket.options.iter().map(String::as_str));
        let options: Vec<_> = options
            .iter()
            .map(|option| format!("-o {option}"))
            .collect();
        let attributes = [
            ("mounter", "s3fs".to_owned()),
            ("options", options.join(" ")),
            (
                PROVIDER_ATTRIBUTE,
                provider_name(bucket.provider).to_owned(),
            ),
        ];
        let attributes = attributes
            .map(|(key, value)| (key.to_owned(), value))
            .into();
        let volume = Volume::read(&buckets::handle(bucket), &attributes).unwrap();
        let region = bucket.region.as_deref().unwrap_or_default();
        let values = [
            (credentials::ENDPOINT, &*bucket.endpoint),
            (credentials::REGION, region),
        ];
        arguments(&source(volume, &secrets(&values), HTTPS).unwrap())
    }

    #[test]
    fn a_bucket_has_the_same_arguments_as_a_live_mount_and_as_a_volume() {
        for provider in [
            BucketProvider::S3,
            BucketProvider::R2,
            BucketProvider::Gcs,
            BucketProvider::Other,
        ] {
            let bucket = bucket(provider);
            assert_eq!(as_volume(&bucket, &[]), live(&bucket), "{provider:?}");
            // Controllers may also write the provider's options themselves.
            let written = as_volume(&bucket, provider_options(provider));
            assert_eq!(written, live(&bucket), "{provider:?}");
        }
    }
}
