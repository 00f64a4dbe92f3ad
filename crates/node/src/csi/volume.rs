//! What a volume asks for, read from its handle and attributes as k8s-csi-s3 has
//! them, so that one shape of volume serves both drivers. The mounter is always
//! ours, s3fs. Of the options of another one, those that mean something to every
//! mounter (identity, modes, read-only) are translated; the rest, which tunes that
//! mounter alone, is dropped. Pure.

use std::collections::HashMap;

use super::words::{Flag, flags, words};

/// Attributes of a volume.
const MOUNTER: &str = "mounter";
const OPTIONS: &str = "options";

/// What a volume asks for, its credentials apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    /// Name of the bucket.
    pub bucket: String,
    /// Only what lies under this folder, without slashes around it.
    pub prefix: Option<String>,
    /// Refuses writes.
    pub read_only: bool,
    /// Who everything belongs to.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// The permissions that files and folders do not have.
    pub umask: Option<u32>,
    /// Other options of s3fs, each `key` or `key=value`.
    pub options: Vec<String>,
}

/// Why a volume cannot be understood, for whoever wrote it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unclear(String);

impl Unclear {
    /// That text.
    pub fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Says what is unclear.
fn unclear<T>(text: impl Into<String>) -> Result<T, Unclear> {
    Err(Unclear::of(text))
}

/// The mounters that k8s-csi-s3 knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounter {
    S3fs,
    Geesefs,
    Rclone,
}

impl Volume {
    /// Reads the handle, `bucket` or `bucket/prefix`, and the attributes. Those
    /// that are not ours, such as the pod's, mean nothing.
    ///
    /// # Errors
    /// A handle without a bucket, a prefix that leads elsewhere, an unknown
    /// mounter, options that cannot be read.
    pub fn read(handle: &str, attributes: &HashMap<String, String>) -> Result<Self, Unclear> {
        let (bucket, prefix) = place(handle)?;
        let mut volume = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.map(ToOwned::to_owned),
            ..Self::default()
        };
        let mounter = match attributes.get(MOUNTER).map_or("", String::as_str) {
            "s3fs" | "" => Mounter::S3fs,
            "geesefs" => Mounter::Geesefs,
            "rclone" => Mounter::Rclone,
            other => {
                return unclear(format!(
                    "attribute mounter: `{other}` is none of s3fs, geesefs and rclone, all of which mean s3fs here"
                ));
            }
        };
        let text = attributes.get(OPTIONS).map_or("", String::as_str);
        let Some(words) = words(text) else {
            return unclear("attribute options: a double quote is not closed");
        };
        volume.take(mounter, flags(words))?;
        Ok(volume)
    }

    /// Takes the options over.
    fn take(&mut self, mounter: Mounter, flags: Vec<Flag>) -> Result<(), Unclear> {
        let (mut files, mut folders) = (None, None);
        for Flag { name, value } in flags {
            let value = value.as_deref();
            match (mounter, name.as_str()) {
                (_, "-o") => self.mount_options(mounter, value.unwrap_or_default())?,
                (_, "--uid") => self.uid = Some(number(&name, value)?),
                (_, "--gid") => self.gid = Some(number(&name, value)?),
                (Mounter::Geesefs, "--file-mode") => files = Some(mode(&name, value)?),
                (Mounter::Geesefs, "--dir-mode") => folders = Some(mode(&name, value)?),
                (Mounter::Rclone, "--file-perms") => files = Some(octal(&name, value)?),
                (Mounter::Rclone, "--dir-perms") => folders = Some(octal(&name, value)?),
                (Mounter::Rclone, "--read-only") => self.read_only = value != Some("false"),
                (Mounter::Rclone, "--umask") => self.umask = Some(octal(&name, value)?),
                (Mounter::Geesefs | Mounter::Rclone, name) if name.starts_with('-') => {}
                (_, name) => {
                    return unclear(format!(
                        "attribute options: `{name}` is no option of s3fs; what is needed looks like `-o key=value`"
                    ));
                }
            }
        }
        if let Some(mode) = both(files, folders) {
            self.umask = Some(0o777 & !mode);
        }
        Ok(())
    }

    /// Takes what follows `-o`: options with commas between.
    fn mount_options(&mut self, mounter: Mounter, list: &str) -> Result<(), Unclear> {
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
                // Everybody's, always: the pod decides who sees it. And what the
                // attribute of the other driver says of the mount itself.
                "rw" | "allow_other" => {}
                _ if mounter == Mounter::S3fs => self.options.push(option.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Takes a handle apart at its first slash.
fn place(handle: &str) -> Result<(&str, Option<&str>), Unclear> {
    let (bucket, prefix) = match handle.split_once('/') {
        Some((bucket, prefix)) => (bucket, Some(prefix)),
        None => (handle, None),
    };
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let named = (3..=63).contains(&bucket.len())
        && bucket.starts_with(end)
        && bucket.ends_with(end)
        && bucket.chars().all(|c| end(c) || c == '.' || c == '-');
    if !named {
        return unclear(format!(
            "volumeHandle `{handle}`: what is needed is `bucket` or `bucket/prefix`, and `{bucket}` is no bucket's name"
        ));
    }
    let plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    match prefix {
        Some(prefix) if prefix.len() > 512 || !prefix.split('/').all(plain) => unclear(format!(
            "volumeHandle `{handle}`: a prefix has at most 512 bytes, no slash at its end, and no empty, `.` or `..` segments"
        )),
        prefix => Ok((bucket, prefix)),
    }
}

/// One mode for files and folders, as s3fs has no two: what either may. A folder
/// that may be read may be entered.
fn both(files: Option<u32>, folders: Option<u32>) -> Option<u32> {
    let opened = files.map(|mode| mode | mode >> 2 & 0o111);
    match (folders, files, opened) {
        (Some(folders), files, _) => Some(folders | files.unwrap_or_default()),
        (None, _, opened) => opened,
    }
}

fn number(name: &str, value: Option<&str>) -> Result<u32, Unclear> {
    match value.map(str::parse) {
        Some(Ok(number)) => Ok(number),
        _ => unclear(format!("attribute options: `{name}` needs a number")),
    }
}

/// A mode as Go's flags read it, by which geesefs does: octal with a leading 0.
fn mode(name: &str, value: Option<&str>) -> Result<u32, Unclear> {
    let text = value.unwrap_or_default();
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some(digits) if !digits.is_empty() => octal(name, Some(digits)),
        _ => number(name, value).map(|mode| mode & 0o777),
    }
}

fn octal(name: &str, value: Option<&str>) -> Result<u32, Unclear> {
    match value.map(|text| u32::from_str_radix(text, 8)) {
        Some(Ok(mode)) => Ok(mode & 0o777),
        _ => unclear(format!(
            "attribute options: `{name}` needs a mode such as 0755"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(handle: &str, mounter: &str, options: &str) -> Result<Volume, Unclear> {
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
    fn options_of_s3fs_are_taken_as_they_are() {
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
    fn a_mode_is_read_as_the_other_mounter_reads_it() {
        let umask = |text: &str| read("my-bucket", "geesefs", text).unwrap().umask;
        assert_eq!(umask("--dir-mode 0777"), Some(0));
        assert_eq!(umask("--dir-mode 493"), Some(0o022));
        assert_eq!(umask("--dir-mode 0o700"), Some(0o077));
    }
}
