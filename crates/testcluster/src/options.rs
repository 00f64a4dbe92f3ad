//! What a caller may choose about a cluster: where it lives and how old its
//! container runtime is. Pure; nothing here touches the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The subfolder of a state folder in which the older cluster lives.
pub(crate) const OLDER: &str = "older";

/// Which container runtime the node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// containerd 2 and runc 1.5: image volumes and user namespaces.
    #[default]
    Current,
    /// Debian's containerd 1.6 and runc 1.1: neither of the two.
    Older,
}

/// How to bring a cluster up, or find it again.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state folder; the older profile lives in its subfolder `older`.
    pub state: PathBuf,
    /// Which container runtime the node has.
    pub profile: Profile,
    /// Whether progress is written to standard error.
    pub progress: bool,
}

impl Options {
    /// The folder that the state is kept in when nobody names another: what
    /// `HUTCH_TESTCLUSTER` says (`testcluster run` sets it), else
    /// `target/testcluster` of the workspace around the current directory.
    pub fn default_state() -> PathBuf {
        if let Some(state) = std::env::var_os("HUTCH_TESTCLUSTER").filter(|state| !state.is_empty())
        {
            return state.into();
        }
        workspace().join("target/testcluster")
    }

    /// The folder that belongs to this cluster alone, absolute and with its
    /// symbolic links resolved, so that two spellings of it are one cluster.
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

/// The workspace around the current folder, or where there is none, that folder.
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
    fn the_older_profile_has_a_folder_of_its_own() {
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
    fn a_state_folder_need_not_exist_yet() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
        assert_eq!(
            resolve(&folder.path().join("link/a/b")).unwrap(),
            real.join("a/b")
        );
    }
}
