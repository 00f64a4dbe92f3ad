//! The options of a cluster: its state directory and its container runtime.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The subdirectory of a state directory for the cluster with the older runtime.
pub(crate) const OLDER: &str = "older";

/// The container runtime of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// containerd 2 and runc 1.5: image volumes and user namespaces.
    #[default]
    Current,
    /// Debian's containerd 1.6 and runc 1.1: neither of the two.
    Older,
}

/// The options to start or find a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory. The older profile uses its subdirectory `older`.
    pub state: PathBuf,
    /// The container runtime of the node.
    pub profile: Profile,
    /// True if progress is written to standard error.
    pub progress: bool,
}

impl Options {
    /// The default state directory: the value of `HUTCH_TESTCLUSTER` (`testcluster run`
    /// sets it), else `target/testcluster` of the workspace around the current directory.
    pub fn default_state() -> PathBuf {
        if let Some(state) = std::env::var_os("HUTCH_TESTCLUSTER").filter(|state| !state.is_empty())
        {
            return state.into();
        }
        workspace().join("target/testcluster")
    }

    /// The directory of this cluster alone. It is absolute and its symbolic links are
    /// resolved, so that two spellings of a path name one cluster.
    pub fn root(&self) -> Result<PathBuf> {
        let root = match self.profile {
            Profile::Current => self.state.clone(),
            Profile::Older => self.state.join(OLDER),
        };
        resolve(&std::path::absolute(root)?)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state: Self::default_state(),
            profile: Profile::Current,
            progress: true,
        }
    }
}

/// The workspace around the current directory, or the current directory if there is none.
pub(crate) fn workspace() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let outermost = here
        .ancestors()
        .filter(|dir| dir.join("Cargo.toml").is_file())
        .last();
    outermost.unwrap_or(&here).to_path_buf()
}

/// Canonicalises the part of a path that exists and appends the rest.
fn resolve(path: &Path) -> Result<PathBuf> {
    for existing in path.ancestors() {
        if let Ok(canonical) = existing.canonicalize() {
            let rest = path.strip_prefix(existing)?;
            return Ok(if rest.as_os_str().is_empty() {
                canonical
            } else {
                canonical.join(rest)
            });
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::NotFound))
        .with_context(|| format!("no part of {} exists", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_profile_has_its_own_directory() {
        let state = std::env::temp_dir();
        let of = |profile| {
            Options {
                state: state.clone(),
                profile,
                progress: false,
            }
            .root()
        };
        assert_eq!(
            of(Profile::Older).unwrap(),
            of(Profile::Current).unwrap().join("older")
        );
    }

    #[test]
    fn a_state_directory_need_not_exist_yet() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join("link")).unwrap();
        assert_eq!(
            resolve(&directory.path().join("link/a/b")).unwrap(),
            real.join("a/b")
        );
    }
}
