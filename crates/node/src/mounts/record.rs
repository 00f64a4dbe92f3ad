//! The record of a mount: a JSON file without credentials, for the next process. A process
//! that becomes a mounter writes it first, so that no mounter exists without a record.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attachments::Attachment;
use crate::Process;
use hutch_core::names;

/// One mount. Older processes wrote such files, so names in the JSON must not change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    /// A digest of the ID, used in names of files, cgroups and mount sources.
    pub key: String,
    /// The mounter. `None` if there has been none yet.
    pub process: Option<Process>,
    /// Digest of the source.
    pub digest: String,
    /// Device number of the file system. Empty until it is mounted.
    pub device: String,
    /// True if the mounter has answered.
    pub verified: bool,
    /// The clones of the mount.
    #[serde(rename = "places")]
    pub attachments: Vec<Attachment>,
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
            attachments: Vec::new(),
        }
    }

    /// The mount's source in `mountinfo`.
    pub fn label(&self) -> String {
        format!("hutch-{}", self.key)
    }

    /// True if the mounter has answered and runs.
    pub fn is_alive(&self) -> bool {
        self.verified && self.process.is_some_and(Process::runs)
    }

    pub fn file(&self, state: &Path) -> PathBuf {
        state.join("mounts").join(format!("{}.json", self.key))
    }

    /// The mounter's log file.
    pub fn output(&self, state: &Path) -> PathBuf {
        state.join("mounts").join(format!("{}.log", self.key))
    }

    /// Replaces the file atomically.
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
            // It fails if the file was never written.
            let _ = fs::remove_file(file);
        }
    }
}

/// All records of a state directory. Files that cannot be read are skipped.
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
