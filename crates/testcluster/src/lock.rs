//! One process at a time brings a given cluster up or takes it down.
//! The kernel drops the lock with its holder, however that ends.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layout::RUN;
use crate::shell;

/// Held until dropped.
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock of a state folder. Its file is elsewhere, as `down`
    /// deletes that folder.
    pub fn take(root: &Path) -> Result<Self> {
        let name = crate::build::digest(&[&root.display().to_string()]);
        let path = Path::new(RUN).join(format!("lock-{name}"));
        loop {
            fs::create_dir_all(RUN).with_context(|| format!("making {RUN}"))?;
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.lock()?;
            // A lock on a file that was removed meanwhile is worth nothing.
            let held = file.metadata()?.ino();
            if fs::metadata(&path).is_ok_and(|now| now.ino() == held) {
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// Leaves nothing behind; only the last cluster's folder is empty by then.
    pub fn remove(self) -> Result<()> {
        shell::ignore_missing(fs::remove_file(&self.path))?;
        drop(self);
        let _ = fs::remove_dir(RUN);
        Ok(())
    }
}
