//! Stores values on disk: one directory per session, mode 0700, under the state
//! directory.
//!
//! Commands of the sandbox may do anything to these files. So it follows no symbolic
//! links, does not block on pipes, and ignores a value that is incomplete or belongs to
//! another session.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::value::{Value, checksum};
use crate::log;

/// The value's file in a session's directory.
const VALUE: &str = "value";
/// The file beside it with the name of the session's owner.
const OWNER: &str = "owner";
/// Longest id that is completely in the directory's name.
const MAX_PLAIN_ID_BYTES: usize = 100;
/// Largest file that is read: a value and its header.
const MAX_FILE_BYTES: u64 = 2 * hutch_wire::limits::MAX_SESSION_VALUE as u64;

/// The state directory.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in `preferred`. If that is missing or read-only, it uses memory
    /// or a temporary directory: values then end with the pod, and the log says so.
    /// `mark` is random. `None` if no directory is writable.
    pub fn open(preferred: &Path, mark: &str) -> Option<Self> {
        let root = preferred.join("sessions");
        match usable(&root) {
            Ok(()) => return Some(Self { root }),
            Err(problem) => log::line(&format!(
                "sessions will not outlive the pod, as {} cannot be written: {problem}",
                preferred.display()
            )),
        }
        // The directory is created with the first session.
        ["/dev/shm", "/tmp", "/var/tmp"]
            .into_iter()
            .find(|directory| accessat(CWD, *directory, Access::WRITE_OK, AtFlags::empty()).is_ok())
            .map(|directory| Self {
                root: Path::new(directory).join(format!(".hutch-sessions-{mark}")),
            })
    }

    /// The directory of a session; it may not exist.
    pub fn directory(&self, id: &str) -> PathBuf {
        self.root.join(name(id))
    }

    /// Creates the directory of a session if it is missing.
    ///
    /// # Errors
    /// If it cannot be created, or is something else.
    pub fn prepare(&self, id: &str) -> io::Result<()> {
        let directory = self.directory(id);
        make(&directory).or_else(|_| {
            // A command has put another file there.
            let _ = fs::remove_file(&directory);
            make(&directory)
        })
    }

    /// Reads the value of a session, if a complete one is there.
    pub fn read(&self, id: &str) -> Option<Value> {
        let bytes = read(&self.directory(id).join(VALUE)).ok()?;
        let (whose, value) = Value::decode(&bytes)?;
        (whose == id).then_some(value)
    }

    /// True if a value file of this size exists.
    pub fn has(&self, id: &str, size: usize) -> bool {
        fs::symlink_metadata(self.directory(id).join(VALUE))
            .is_ok_and(|status| status.is_file() && status.len() == size as u64)
    }

    /// Replaces the value completely or not at all.
    ///
    /// # Errors
    /// If the volume refuses it; the old value then remains.
    pub fn write(&self, id: &str, encoded: &[u8]) -> io::Result<()> {
        self.replace(id, VALUE, encoded)
    }

    /// Stores the session's owner beside its value.
    ///
    /// # Errors
    /// If the volume refuses it.
    pub fn write_owner(&self, id: &str, owner: &str) -> io::Result<()> {
        self.replace(id, OWNER, owner.as_bytes())
    }

    /// The session's owner, or an empty string.
    pub fn owner(&self, id: &str) -> String {
        let bytes = read(&self.directory(id).join(OWNER)).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    fn replace(&self, id: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.prepare(id)?;
        let directory = self.directory(id);
        let new = directory.join("value.new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(&new, directory.join(name))
    }

    /// Deletes a session.
    pub fn remove(&self, id: &str) {
        let _ = fs::remove_dir_all(self.directory(id));
    }

    /// Loads all sessions with a complete value and removes everything else.
    pub fn all(&self) -> Vec<(String, Value)> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let directory = entry.path();
            let value = read(&directory.join(VALUE)).ok();
            let value = value.and_then(|bytes| Value::decode(&bytes));
            match value.filter(|(id, _)| *name(id) == entry.file_name()) {
                Some(session) => {
                    tidy(&directory);
                    found.push(session);
                }
                None => {
                    let _ = fs::remove_dir_all(&directory).or_else(|_| fs::remove_file(&directory));
                }
            }
        }
        found
    }
}

/// Reads a regular file of limited size.
///
/// # Errors
/// If it is not one, or cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let status = file.metadata()?;
    if !status.is_file() || status.len() > MAX_FILE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(status.len()).unwrap_or_default());
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes files that earlier commands have left beside a value.
fn tidy(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if ![VALUE, OWNER]
            .map(str::as_bytes)
            .contains(&entry.file_name().as_bytes())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn usable(root: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(root) {
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => make(root)?,
        made => made?,
    }
    let probe = root.join(".probe");
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}

fn make(directory: &Path) -> io::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(directory);
    match made {
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(directory)?.is_dir() {
                Ok(())
            } else {
                Err(problem)
            }
        }
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            // The state directory itself was removed.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
        }
        other => other,
    }
}

/// The directory's name: the id in hex. For long ids: their beginning and two
/// checksums; the value file then identifies the session.
fn name(id: &str) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let bytes = id.as_bytes();
    if bytes.len() <= MAX_PLAIN_ID_BYTES {
        return hex(bytes);
    }
    let backwards: Vec<u8> = bytes.iter().rev().copied().collect();
    let begin = hex(&bytes[..64]);
    format!(
        "{begin}-{:016x}{:016x}",
        checksum(bytes),
        checksum(&backwards)
    )
}

#[cfg(test)]
mod tests {
    use super::super::value::Kind;
    use super::*;

    #[test]
    fn no_part_of_an_id_becomes_a_path() {
        let long = "/../".repeat(128);
        for id in ["..", "/", "a\nb", "ü", &long] {
            let name = name(id);
            assert!(
                name.len() < 200
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            );
        }
        assert_ne!(name(&"x".repeat(511)), name(&"x".repeat(512)));
    }

    #[test]
    fn a_half_written_value_is_not_taken_and_the_old_one_stays_until_then() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "x").unwrap();
        let value = Value::new(Kind::Bash, b"/a".to_vec());
        store.write("x", &value.encode("x")).unwrap();
        fs::write(store.directory("x").join("value.new"), b"half").unwrap();
        assert_eq!(store.read("x"), Some(value.clone()));
        assert_eq!(store.all(), [("x".to_string(), value)]);
        assert!(!store.directory("x").join("value.new").exists());
        fs::write(store.directory("x").join("value"), b"hutch-session-1 bash").unwrap();
        assert_eq!((store.read("x"), store.all()), (None, vec![]));
    }
}
