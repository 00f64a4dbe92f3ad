//! A lock per cluster: one process at a time starts or removes it.
//! The kernel releases the lock when its holder ends, also after SIGKILL.

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
    /// Waits for the lock of a state directory. The lock file is outside of it, because
    /// `down` deletes that directory.
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
            // The previous holder may have removed the file. Then others lock a new one.
            let held = file.metadata()?.ino();
            if fs::metadata(&path).is_ok_and(|now| now.ino() == held) {
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// Removes the lock file. The shared directory is removed only if it is empty, which
    /// is after the last cluster.
    pub fn remove(self) -> Result<()> {
        shell::ignore_missing(fs::remove_file(&self.path))?;
        drop(self);
        let _ = fs::remove_dir(RUN);
        Ok(())
    }
}
