//! The options of s3fs that a user may set. Options that tune performance are allowed.
//! Options are refused if they name files of the node, other credentials or another
//! endpoint, disable TLS checks, or log requests.

use super::Error;

/// The allowed options. Some take a value.
const ALLOWED: [&str; 57] = [
    "allow_other",
    "async_read",
    "atime",
    "attr_timeout",
    "auto_cache",
    "big_writes",
    "compat_dir",
    "complement_stat",
    "connect_timeout",
    "default_acl",
    "direct_io",
    "disable_noobj_cache",
    "enable_content_md5",
    "enable_noobj_cache",
    "endpoint",
    "ensure_diskfree",
    "entry_timeout",
    "kernel_cache",
    "list_object_max_keys",
    "listobjectsv2",
    "max_dirty_data",
    "max_read",
    "max_readahead",
    "max_stat_cache_size",
    "max_thread_count",
    "max_write",
    "mp_umask",
    "multipart_copy_size",
    "multipart_size",
    "multipart_threshold",
    "multireq_max",
    "negative_timeout",
    "noatime",
    "nocopyapi",
    "nodnscache",
    "nomixupload",
    "nomultipart",
    "norenameapi",
    "nosscache",
    "notsup_compat_dir",
    "noua",
    "parallel_count",
    "readwrite_timeout",
    "requester_pays",
    "retries",
    "ro",
    "sigv2",
    "sigv4",
    "singlepart_copy_limit",
    "stat_cache_expire",
    "stat_cache_interval_expire",
    "storage_class",
    "umask",
    "use_path_request_style",
    "use_rrs",
    "use_wtf8",
    "use_xattr",
];

/// Checks an option, such as `multipart_size=64`, and returns its name.
///
/// # Errors
/// [`Error::BadOption`], which names the option.
pub fn checked(option: &str) -> Result<&str, Error> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:+-".contains(c);
    if !ALLOWED.contains(&name) {
        let name: String = name.chars().take(64).collect();
        return Err(Error::BadOption(format!(
            "the option {name:?} is not allowed"
        )));
    }
    // A comma would start another option. A backslash is libfuse's escape character.
    if !value.chars().all(plain) {
        return Err(Error::BadOption(format!(
            "the option {name} has a value that is not allowed"
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_that_tune_are_allowed() {
        for good in [
            "multipart_size=64",
            "nomixupload",
            "use_xattr=1",
            "ro",
            "umask=0022",
        ] {
            assert!(checked(good).is_ok(), "{good}");
        }
        let bad = [
            "passwd_file=/etc/passwd",
            "use_cache=/",
            "logfile=/x",
            "tmpdir=/x",
            "credlib=/x.so",
            "ahbe_conf=/x",
            "url=http://x",
            "host=x",
            "dbglevel=info",
            "curldbg",
            "iam_role=auto",
            "profile=x",
            "use_sse=custom:/etc/shadow",
            "load_sse_c=/x",
            "mime=/etc/shadow",
            "no_check_certificate",
            "ssl_verify_hostname=0",
            "uid=0",
            "suid",
            "dev",
            "rw",
            "",
            "=",
            "retries=1,passwd_file=/x",
            "retries=1\\,x",
            "retries=a b",
        ];
        for bad in bad {
            let error = checked(bad).unwrap_err();
            assert!(matches!(error, Error::BadOption(_)), "{bad}");
        }
    }
}
