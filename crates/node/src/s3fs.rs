//! s3fs (1.90 and newer) as the mounter: its command line and the meaning of its output.
//!
//! With a wrong key it returns 0 and ends a moment later, so its exit code is ignored. At
//! the log level `err` its output contains the S3 service's own error code. The code
//! distinguishes a wrong key from a missing bucket, even if a service answers both with 404.

use std::path::{Path, PathBuf};

use super::{Error, Source, options};
use hutch_core::s3::provider_options;

/// Default options. A user's option of the same name replaces one. They make a mount succeed
/// or fail within 10 s; s3fs sleeps for 2 s between two attempts.
const DEFAULTS: [&str; 4] = [
    "retries=2",
    "connect_timeout=4",
    "readwrite_timeout=20",
    "mp_umask=0022",
];
/// The directory for data that s3fs has not sent yet. It is on a disk, because memory is scarce.
const TMPDIR: &str = "/var/tmp";
/// S3 error codes for bad credentials. versitygw uses the last one for an unknown access key.
const DENIED: [&str; 9] = [
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "Unauthorized",
    "XAdminUserNotFound",
];

/// The program `s3fs`.
#[derive(Default)]
pub struct S3fs {
    /// A PEM file of certificate authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

impl S3fs {
    /// The program and its arguments. They mount `source` at `point` with the mount source
    /// `label` and read the credentials from the file `key_file`. The arguments contain no
    /// credentials. The program runs in the foreground.
    ///
    /// # Errors
    /// [`Error::BadOption`] if an option of the source is not allowed.
    pub fn command(
        &self,
        source: &Source,
        label: &str,
        point: &Path,
        key_file: &Path,
    ) -> Result<Vec<String>, Error> {
        let mut set_by_user = Vec::new();
        for option in &source.options {
            set_by_user.push(options::checked(option)?);
        }
        let mut command = vec!["s3fs".to_owned(), target(source)];
        command.push(point.display().to_string());
        command.push("-f".to_owned());
        let mut option = |option: String| command.extend(["-o".to_owned(), option]);
        for default in defaults(source) {
            let name = default.split('=').next().unwrap_or_default();
            if !set_by_user.contains(&name) {
                option(default);
            }
        }
        for allowed in &source.options {
            option(allowed.clone());
        }
        option(format!("url={}", source.endpoint.trim_end_matches('/')));
        option(format!("passwd_file={}", key_file.display()));
        option(format!("fsname={label}"));
        // libfuse drops the subtype if there is an fsname.
        option("subtype=s3fs".to_owned());
        option(format!("uid={}", source.owner.uid));
        option(format!("gid={}", source.owner.gid));
        option(format!("tmpdir={TMPDIR}"));
        option("dbglevel=err".to_owned());
        option("allow_other".to_owned());
        if source.read_only {
            option("ro".to_owned());
        }
        Ok(command)
    }

    /// Environment variables beside `PATH` and `HOME`.
    pub fn environment(&self) -> Vec<(String, String)> {
        // s3fs uses it if verification with the system's authorities fails.
        let bundle = |file: &PathBuf| ("CURL_CA_BUNDLE".to_owned(), file.display().to_string());
        self.ca_file.iter().map(bundle).collect()
    }

    /// Content of the credentials file.
    pub fn key_file_content(source: &Source) -> String {
        let credentials = &source.credentials;
        let (id, secret) = (&credentials.access_key_id, &credentials.secret_access_key);
        format!("{id}:{secret}\n")
    }

    /// Derives the reason for a failure from the program's output.
    pub fn explain(source: &Source, output: &str) -> Error {
        let code = output.split("<Code>").nth(1);
        let code = code
            .and_then(|rest| rest.split('<').next())
            .unwrap_or_default();
        if let Some(line) = output.lines().find(|line| is_about_option(line)) {
            return Error::BadOption(format!("the mounter says: {}", line.trim()));
        }
        if code == "NoSuchBucket" {
            return Error::NoSuchBucket(source.bucket.clone());
        }
        if DENIED.contains(&code) || output.contains("invalid credentials") {
            let code = if code.is_empty() { "403" } else { code };
            return Error::AccessDenied(code.to_owned());
        }
        if output.contains("not found(host=") || output.contains("Bucket or directory not found") {
            return Error::NoSuchBucket(source.bucket.clone());
        }
        if output.contains("curlCode: 60") {
            let endpoint = &source.endpoint;
            return Error::Unreachable(format!(
                "{endpoint} has a certificate that the node does not trust (hutch-node --ca-file names authorities besides the system's)"
            ));
        }
        if output.contains("nable to connect") || output.contains("Could not connect") {
            let endpoint = &source.endpoint;
            return Error::Unreachable(format!("{endpoint} cannot be reached"));
        }
        let last = output.lines().rfind(|line| !line.trim().is_empty());
        match last.and_then(|line| line.split("] ").last()) {
            Some(last) => {
                let last: String = last.chars().take(200).collect();
                Error::Mounter(format!("the mounter ended: {last}"))
            }
            None => Error::Mounter("the mounter ended without any output".to_owned()),
        }
    }
}

/// True for an output line about an option that s3fs or libfuse rejects.
fn is_about_option(line: &str) -> bool {
    line.starts_with("fuse: unknown option")
        || line.starts_with("fuse: invalid parameter")
        || line.starts_with("s3fs: ")
            && ["option", "must be", "unknown", "invalid"]
                .iter()
                .any(|word| line.contains(word))
}

fn target(source: &Source) -> String {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    match prefix.trim_matches('/') {
        "" => source.bucket.clone(),
        prefix => format!("{}:/{prefix}", source.bucket),
    }
}

/// The default options for the source's provider and region.
fn defaults(source: &Source) -> Vec<String> {
    let mut all: Vec<_> = DEFAULTS.map(str::to_owned).to_vec();
    if let Some(region) = &source.region {
        all.push(format!("endpoint={region}"));
    }
    let provider = provider_options(source.provider).iter();
    all.extend(provider.map(|option| (*option).to_owned()));
    all
}

#[cfg(test)]
#[path = "s3fs_tests.rs"]
mod tests;
