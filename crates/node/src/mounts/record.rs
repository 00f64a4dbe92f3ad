//! What has to be known of a mount by the process after this one: a file per
//! mount, without keys, written by the mounter-to-be before it is one, so that
//! none is ever without.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::places::Placed;
use crate::Process;
use hutch_core::names;

/// One mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// A name made of it that fits everywhere.
    pub key: String,
    /// The mounter; none where there was none yet.
    pub process: Option<Process>,
    /// Digest of the source.
    pub digest: String,
    /// Device number of the file system, once it is mounted.
    pub device: String,
    /// Whether it has answered.
    pub verified: bool,
    /// Where clones of the mount are.
    pub places: Vec<Placed>,
}

impl Record {
    pub fn new(id: &str, state: &Path) -> Self {
        let all = [state.as_os_str().as_encoded_bytes(), id.as_bytes()].join(&0);
        Self {
            id: id.to_owned(),
            key: names::digest(&all, 20),
            process: None,
            digest: String::new(),
            device: String::new(),
            verified: false,
            places: Vec::new(),
        }
    }

    /// What the mount is called as a mount's source.
    pub fn label(&self) -> String {
        format!("hutch-{}", self.key)
    }

    /// Whether there is a mounter that has answered and runs.
    pub fn lives(&self) -> bool {
        self.verified && self.process.is_some_and(Process::runs)
    }

    pub fn file(&self, state: &Path) -> PathBuf {
        state.join("mounts").join(format!("{}.json", self.key))
    }

    /// What the mounter says.
    pub fn output(&self, state: &Path) -> PathBuf {
        state.join("mounts").join(format!("{}.log", self.key))
    }

    /// Writes it to its file, at once or not at all.
    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        let partial = file.with_extension("partial");
        let mut options = fs::OpenOptions::new();
        let mut to = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        to.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&partial, file)
    }

    pub fn remove(&self, state: &Path) {
        for file in [self.file(state), self.output(state)] {
            // It may never have been written.
            let _ = fs::remove_file(file);
        }
    }
}

/// Every record of a state folder.
pub fn all(state: &Path) -> Vec<Record> {
    let entries = fs::read_dir(state.join("mounts"))
        .into_iter()
        .flatten()
        .flatten();
    let files = entries.map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
        .collect()
}
