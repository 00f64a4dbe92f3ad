use std::path::Path;

use super::*;
use crate::Owner;
use hutch_api::BucketProvider;
use hutch_core::s3::S3Credentials;

fn source() -> Source {
    Source {
        endpoint: "https://s3.example.com/".into(),
        region: None,
        bucket: "data".into(),
        prefix: None,
        provider: BucketProvider::Other,
        read_only: false,
        options: Vec::new(),
        credentials: S3Credentials {
            access_key_id: "the-id".into(),
            secret_access_key: "the-key".into(),
        },
        owner: Owner { uid: 7, gid: 8 },
    }
}

fn command(source: &Source) -> Vec<String> {
    let (point, key_file) = (Path::new("/point"), Path::new("/key_file"));
    S3fs::default()
        .command(source, "label", point, key_file)
        .unwrap()
}

fn has(command: &[String], option: &str) -> bool {
    command.iter().any(|word| word == option)
}

#[test]
fn credentials_appear_only_in_their_file() {
    let source = source();
    assert_eq!(S3fs::key_file_content(&source), "the-id:the-key\n");
    let command = command(&source).join(" ");
    assert!(!command.contains("the-"), "{command}");
    assert!(!format!("{source:?}").contains("the-"));
}

#[test]
fn options_depend_on_provider_and_region_and_a_users_option_wins() {
    let plain = command(&source());
    assert_eq!(&plain[..4], ["s3fs", "data", "/point", "-f"]);
    for option in [
        "use_path_request_style",
        "url=https://s3.example.com",
        "uid=7",
        "gid=8",
    ] {
        assert!(has(&plain, option), "{option} in {plain:?}");
    }
    assert!(!has(&plain, "ro") && !has(&plain, "nomixupload"));
    let special = command(&Source {
        region: Some("auto".into()),
        prefix: Some("/a/b/".into()),
        provider: BucketProvider::R2,
        read_only: true,
        options: vec!["retries=9".into(), "endpoint=eu".into()],
        ..source()
    });
    assert_eq!(special[1], "data:/a/b");
    for option in ["nomixupload", "ro", "retries=9", "endpoint=eu"] {
        assert!(has(&special, option), "{option} in {special:?}");
    }
    for option in ["retries=2", "endpoint=auto", "use_path_request_style"] {
        assert!(!has(&special, option), "{option} in {special:?}");
    }
    let refused = Source {
        options: vec!["passwd_file=/x".into()],
        ..source()
    };
    let (point, key_file) = (Path::new("/point"), Path::new("/key_file"));
    assert!(
        S3fs::default()
            .command(&refused, "label", point, key_file)
            .is_err()
    );
}

#[test]
fn s3fs_output_maps_to_a_reason() {
    let reason = |output: &str| S3fs::explain(&source(), output).reason().as_str();
    let denied = "[ERR] …\n<Error><Code>SignatureDoesNotMatch</Code></Error>\n\
                  [CRT] invalid credentials(host=x) - result of checking service.";
    assert_eq!(reason(denied), "AccessDenied");
    let stranger = "<Code>InvalidAccessKeyId</Code>\nbucket or key not found(host=x)";
    assert_eq!(reason(stranger), "AccessDenied");
    let missing = "<Code>NoSuchBucket</Code>\nbucket or key not found(host=x)";
    assert_eq!(reason(missing), "NoSuchBucket");
    assert_eq!(reason("bucket or key not found(host=x)"), "NoSuchBucket");
    assert_eq!(reason("unable to connect(host=x)"), "EndpointUnreachable");
    for bad in [
        "fuse: unknown option `x'",
        "s3fs: multipart_size option must be at least 5 MB.",
        "s3fs: retries must be greater than zero",
    ] {
        assert_eq!(reason(bad), "BadOption", "{bad}");
    }
    assert_eq!(reason(""), "MounterFailed");
    assert_eq!(reason("Segmentation fault"), "MounterFailed");
}
