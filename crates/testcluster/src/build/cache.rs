//! The cache of build products: one folder per part, version and hash.
//!
//! A part is built in a folder of another name and renamed when it is complete,
//! so an interrupted build is never taken for a finished one. A lock per part
//! keeps two processes from building the same one twice.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/hutch`, or `.cache/hutch` in the home folder.
    pub fn open() -> Result<Self> {
        let xdg = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let folder = xdg.unwrap_or_else(|| home().join(".cache")).join("hutch");
        Self::at(&folder)
    }

    fn at(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    /// The folder of a part; `build` fills it when it does not exist yet.
    pub fn part(
        &self,
        name: &str,
        version: &str,
        hash: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let key = format!("{name}-{version}-{hash}");
        let finished = self.folder.join(&key);
        if finished.is_dir() {
            return Ok(finished);
        }
        let lock = File::create(self.folder.join(format!(".{key}.lock")))?;
        lock.lock()?;
        if finished.is_dir() {
            return Ok(finished);
        }
        let partial = self.folder.join(format!(".{key}.partial"));
        if partial.exists() {
            crate::mounts::detach(&partial)?;
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        build(&partial).with_context(|| format!("building {name} {version}"))?;
        fs::rename(&partial, &finished)?;
        Ok(finished)
    }
}

/// The home folder, which a minimal environment may not name.
pub(crate) fn home() -> PathBuf {
    std::env::home_dir()
        .filter(|home| home.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_build_is_not_a_finished_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let failed = cache.part("a", "1", "h", |dir| {
            fs::write(dir.join("half"), "x")?;
            anyhow::bail!("interrupted")
        });
        assert!(failed.is_err());
        let made = cache
            .part("a", "1", "h", |dir| Ok(fs::write(dir.join("whole"), "x")?))
            .unwrap();
        assert!(made.join("whole").exists() && !made.join("half").exists());
        cache
            .part("a", "1", "h", |_| anyhow::bail!("built twice"))
            .unwrap();
    }

    #[test]
    fn who_wants_what_is_being_built_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let builds = std::sync::atomic::AtomicUsize::new(0);
        let want = || {
            // As another process has it: nothing is shared but the folder.
            let cache = Cache::at(folder.path()).unwrap();
            let made = cache.part("a", "1", "h", |dir| {
                builds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                std::thread::yield_now();
                Ok(fs::write(dir.join("whole"), "x")?)
            });
            assert!(made.unwrap().join("whole").exists());
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(want);
            }
        });
        assert_eq!(builds.into_inner(), 1);
    }
}
