//! The cache of build products: one directory per part, version and hash.
//!
//! A part is built in a directory with another name, which is renamed when it is complete.
//! So an interrupted build is never used. A lock per part prevents two processes from
//! building the same part.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/hutch`, or `.cache/hutch` in the home directory.
    pub fn open() -> Result<Self> {
        let xdg = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let directory = xdg.unwrap_or_else(|| home().join(".cache")).join("hutch");
        Self::at(&directory)
    }

    fn at(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(Self {
            directory: directory.to_path_buf(),
        })
    }

    /// Returns the directory of a part. If it does not exist, `build` fills it.
    pub fn part(
        &self,
        name: &str,
        version: &str,
        hash: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let key = format!("{name}-{version}-{hash}");
        let finished = self.directory.join(&key);
        if finished.is_dir() {
            return Ok(finished);
        }
        let lock = File::create(self.directory.join(format!(".{key}.lock")))?;
        lock.lock()?;
        if finished.is_dir() {
            return Ok(finished);
        }
        let partial = self.directory.join(format!(".{key}.partial"));
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

/// The home directory. Default: /root, as a minimal environment may lack HOME.
pub(crate) fn home() -> PathBuf {
    std::env::home_dir()
        .filter(|home| home.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_build_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
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
    fn a_second_builder_waits_for_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let builds = std::sync::atomic::AtomicUsize::new(0);
        let want = || {
            // Like another process: only the directory is shared.
            let cache = Cache::at(directory.path()).unwrap();
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
