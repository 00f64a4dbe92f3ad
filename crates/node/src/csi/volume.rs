//! Reads a volume's handle and attributes. The format is that of k8s-csi-s3, so one volume
//! works with both drivers. The mounter is always s3fs. Options for another mounter are
//! translated if they apply to every mounter (owner, modes, read-only). Its tuning options
//! are dropped. Pure.

use std::collections::HashMap;

use super::flags::{Flag, flags, words};
use hutch_api::BucketProvider;
use hutch_core::buckets::is_bucket_name;
use hutch_core::s3::{PROVIDER_ATTRIBUTE, parse_provider};

/// Attributes of a volume.
const MOUNTER: &str = "mounter";
const OPTIONS: &str = "options";

/// A volume's settings without its credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    /// Name of the bucket.
    pub bucket: String,
    /// Only objects below this prefix. It has no slash at either end.
    pub prefix: Option<String>,
    /// The kind of S3 service. It decides the default options of s3fs.
    pub provider: BucketProvider,
    pub read_only: bool,
    /// Owner of all files.
    pub uid: Option<u32>,
    /// Group of all files.
    pub gid: Option<u32>,
    /// The permissions that files and directories lack.
    pub umask: Option<u32>,
    /// Other options of s3fs, each `key` or `key=value`.
    pub options: Vec<String>,
}

/// The reason why a volume is invalid, for its author.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidVolume(String);

impl InvalidVolume {
    pub fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidVolume> {
    Err(InvalidVolume::of(text))
}

/// The mounters of k8s-csi-s3. Each has its own syntax of options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OptionSyntax {
    S3fs,
    Geesefs,
    Rclone,
}

impl Volume {
    /// Reads the handle (`bucket` or `bucket/prefix`) and the attributes. Unknown attributes,
    /// such as those about the pod, are ignored.
    ///
    /// # Errors
    /// When the handle has no valid bucket name, the prefix has `.` or `..` segments, the
    /// provider or the mounter is unknown, or the options cannot be parsed.
    pub fn read(handle: &str, attributes: &HashMap<String, String>) -> Result<Self, InvalidVolume> {
        let (bucket, prefix) = split_handle(handle)?;
        let mut volume = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.map(ToOwned::to_owned),
            provider: provider(attributes)?,
            ..Self::default()
        };
        let syntax = match attributes.get(MOUNTER).map_or("", String::as_str) {
            "s3fs" | "" => OptionSyntax::S3fs,
            "geesefs" => OptionSyntax::Geesefs,
            "rclone" => OptionSyntax::Rclone,
            other => {
                return invalid(format!(
                    "attribute mounter: `{other}` is not s3fs, geesefs or rclone (each of them means s3fs here)"
                ));
            }
        };
        let text = attributes.get(OPTIONS).map_or("", String::as_str);
        let Some(words) = words(text) else {
            return invalid("attribute options: a double quote is not closed");
        };
        volume.apply(syntax, flags(words))?;
        Ok(volume)
    }

    fn apply(&mut self, syntax: OptionSyntax, flags: Vec<Flag>) -> Result<(), InvalidVolume> {
        let (mut files, mut directories) = (None, None);
        for Flag { name, value } in flags {
            let value = value.as_deref();
            match (syntax, name.as_str()) {
                (_, "-o") => self.mount_options(syntax, value.unwrap_or_default())?,
                (_, "--uid") => self.uid = Some(number(&name, value)?),
                (_, "--gid") => self.gid = Some(number(&name, value)?),
                (OptionSyntax::Geesefs, "--file-mode") => files = Some(mode(&name, value)?),
                (OptionSyntax::Geesefs, "--dir-mode") => directories = Some(mode(&name, value)?),
                (OptionSyntax::Rclone, "--file-perms") => files = Some(octal(&name, value)?),
                (OptionSyntax::Rclone, "--dir-perms") => directories = Some(octal(&name, value)?),
                (OptionSyntax::Rclone, "--read-only") => self.read_only = value != Some("false"),
                (OptionSyntax::Rclone, "--umask") => self.umask = Some(octal(&name, value)?),
                (OptionSyntax::Geesefs | OptionSyntax::Rclone, name) if name.starts_with('-') => {}
                (_, name) => {
                    return invalid(format!(
                        "attribute options: `{name}` is not an option of s3fs; options have the form `-o key=value`"
                    ));
                }
            }
        }
        if let Some(mode) = common_mode(files, directories) {
            self.umask = Some(0o777 & !mode);
        }
        Ok(())
    }

    /// Applies the value of `-o`: options separated by commas.
    fn mount_options(&mut self, syntax: OptionSyntax, list: &str) -> Result<(), InvalidVolume> {
        for option in list.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option, None),
            };
            match key {
                "ro" => self.read_only = true,
                "uid" => self.uid = Some(number(key, value)?),
                "gid" => self.gid = Some(number(key, value)?),
                "umask" => self.umask = Some(octal(key, value)?),
                // `allow_other` is always set, because the pod decides which processes see
                // the mount. `rw` is the default.
                "rw" | "allow_other" => {}
                _ if syntax == OptionSyntax::S3fs => self.options.push(option.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn provider(attributes: &HashMap<String, String>) -> Result<BucketProvider, InvalidVolume> {
    let Some(name) = attributes.get(PROVIDER_ATTRIBUTE) else {
        return Ok(BucketProvider::Other);
    };
    parse_provider(name).ok_or_else(|| {
        InvalidVolume::of(format!(
            "attribute {PROVIDER_ATTRIBUTE}: `{name}` is not r2, s3, gcs or other"
        ))
    })
}

/// Splits a handle at its first slash into bucket and prefix.
fn split_handle(handle: &str) -> Result<(&str, Option<&str>), InvalidVolume> {
    let (bucket, prefix) = match handle.split_once('/') {
        Some((bucket, prefix)) => (bucket, Some(prefix)),
        None => (handle, None),
    };
    if !is_bucket_name(bucket) {
        return invalid(format!(
            "volumeHandle `{handle}`: it must be `bucket` or `bucket/prefix`, and `{bucket}` is not a valid bucket name"
        ));
    }
    let plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    match prefix {
        Some(prefix) if prefix.len() > 512 || !prefix.split('/').all(plain) => invalid(format!(
            "volumeHandle `{handle}`: a prefix has at most 512 bytes, no slash at its end, and no empty, `.` or `..` segments"
        )),
        prefix => Ok((bucket, prefix)),
    }
}

/// The union of the modes for files and directories, because s3fs has only one. If only the
/// files' mode is given, a directory that may be read may also be entered.
fn common_mode(files: Option<u32>, directories: Option<u32>) -> Option<u32> {
    let opened = files.map(|mode| mode | mode >> 2 & 0o111);
    match (directories, files, opened) {
        (Some(directories), files, _) => Some(directories | files.unwrap_or_default()),
        (None, _, opened) => opened,
    }
}

fn number(name: &str, value: Option<&str>) -> Result<u32, InvalidVolume> {
    match value.map(str::parse) {
        Some(Ok(number)) => Ok(number),
        _ => invalid(format!("attribute options: `{name}` needs a number")),
    }
}

/// Parses a mode like geesefs does, with Go's flag syntax: octal after a leading 0, else
/// decimal.
fn mode(name: &str, value: Option<&str>) -> Result<u32, InvalidVolume> {
    let text = value.unwrap_or_default();
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some(digits) if !digits.is_empty() => octal(name, Some(digits)),
        _ => number(name, value).map(|mode| mode & 0o777),
    }
}

fn octal(name: &str, value: Option<&str>) -> Result<u32, InvalidVolume> {
    match value.map(|text| u32::from_str_radix(text, 8)) {
        Some(Ok(mode)) => Ok(mode & 0o777),
        _ => invalid(format!(
            "attribute options: `{name}` needs a mode such as 0755"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(handle: &str, mounter: &str, options: &str) -> Result<Volume, InvalidVolume> {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Volume::read(
            handle,
            &[
                pair(MOUNTER, mounter),
                pair(OPTIONS, options),
                pair("csi.storage.k8s.io/pod.name", "p"),
            ]
            .into(),
        )
    }

    #[test]
    fn a_handle_is_a_bucket_and_a_prefix() {
        let volume = read("my-bucket/a/b c", "s3fs", "").unwrap();
        assert_eq!(volume.bucket, "my-bucket");
        assert_eq!(volume.prefix.as_deref(), Some("a/b c"));
        assert_eq!(read("my-bucket", "", "").unwrap().prefix, None);
        let long = format!("my-bucket/{}", "x".repeat(513));
        for wrong in [
            "",
            "ab",
            "/p",
            "My-bucket",
            "my-bucket/",
            "my-bucket//a",
            "my-bucket/../x",
            "my-bucket/a/.",
            "my-bucket/a\nb",
            "-my-bucket",
            "my_bucket/a",
            &long,
        ] {
            assert!(read(wrong, "s3fs", "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_of_s3fs_are_kept_unchanged() {
        let options =
            r#"-o ro -o uid=1000,gid=1001 -oumask=0027 -o "multipart_size=64" -o allow_other"#;
        let volume = read("my-bucket", "s3fs", options).unwrap();
        assert!(volume.read_only);
        assert_eq!((volume.uid, volume.gid), (Some(1000), Some(1001)));
        assert_eq!(volume.umask, Some(0o027));
        assert_eq!(volume.options, ["multipart_size=64"]);
        for wrong in [
            "--memory-limit 64",
            "stray",
            "-o uid=x",
            "-f",
            "-o umask=9",
            "\"open",
            "-o gid",
        ] {
            assert!(read("my-bucket", "s3fs", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_of_other_mounters_are_translated_or_dropped() {
        let options = "--memory-limit 1000 --dir-mode 0750 --file-mode=0640 --uid 1000 --gid=7 --no-checksum -o ro,max_read=1";
        let geesefs = read("my-bucket", "geesefs", options).unwrap();
        assert!(geesefs.read_only && geesefs.options.is_empty());
        assert_eq!((geesefs.uid, geesefs.gid), (Some(1000), Some(7)));
        assert_eq!(geesefs.umask, Some(0o027));
        let rclone = read(
            "my-bucket",
            "rclone",
            "--read-only --vfs-cache-mode full --file-perms 600",
        );
        let rclone = rclone.unwrap();
        assert!(rclone.read_only);
        assert_eq!(rclone.umask, Some(0o077));
        assert!(read("my-bucket", "goofys", "").is_err());
    }

    #[test]
    fn a_volume_may_name_its_provider() {
        let read = |name: &str| {
            let attributes = [(PROVIDER_ATTRIBUTE.to_owned(), name.to_owned())].into();
            Volume::read("my-bucket", &attributes).map(|volume| volume.provider)
        };
        assert_eq!(read("s3"), Ok(BucketProvider::S3));
        assert!(read("S3").is_err());
        let without = Volume::read("my-bucket", &HashMap::new()).unwrap();
        assert_eq!(without.provider, BucketProvider::Other);
    }

    #[test]
    fn a_mode_is_parsed_like_geesefs_does() {
        let umask = |text: &str| read("my-bucket", "geesefs", text).unwrap().umask;
        assert_eq!(umask("--dir-mode 0777"), Some(0));
        assert_eq!(umask("--dir-mode 493"), Some(0o022));
        assert_eq!(umask("--dir-mode 0o700"), Some(0o077));
    }
}
