//! Builds the parts of a cluster on this machine and caches them.
//!
//! Two lanes run in parallel: Go builds, which use every core, and Debian packages, which
//! mostly wait for the network and the disk. A running cluster is not changed.

mod cache;
mod debian;
mod go;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::images;
use crate::options::Profile;
use crate::progress::Progress;

pub(crate) use cache::Cache;

/// The paths of a cluster's parts.
pub(crate) struct Parts {
    /// The one binary of every Kubernetes component.
    pub kubernetes: PathBuf,
    /// The directory with `containerd`, its shim and `ctr`.
    runtime: PathBuf,
    /// The directory with `runc`.
    runc: PathBuf,
    /// The directory with `supervise` and `pause`.
    tools: PathBuf,
    /// containerd's directory with all images. A cluster gets a copy.
    pub image_store: PathBuf,
}

impl Parts {
    /// Builds the parts that are not in the cache.
    pub fn build(profile: Profile, progress: &Progress) -> Result<Self> {
        let cache = Cache::open()?;
        std::thread::scope(|scope| {
            let lane = scope.spawn(|| debian_lane(&cache, profile, progress));
            let kubernetes = go::kubernetes(&cache, progress)?;
            let containerd = (profile == Profile::Current)
                .then(|| go::containerd(&cache, progress))
                .transpose()?;
            let (tools, older, runc, images) =
                lane.join().map_err(|_| anyhow!("a build thread died"))??;
            let runtime = containerd
                .or(older)
                .context("no container runtime was built")?;
            let runc = runc.unwrap_or_else(|| runtime.with_file_name("sbin"));
            let image_store = images::fill(&cache, &runtime, &images, progress)?;
            Ok(Self {
                kubernetes: kubernetes.join("kubernetes"),
                runtime,
                runc,
                tools,
                image_store,
            })
        })
    }

    pub fn containerd(&self) -> PathBuf {
        self.runtime.join("containerd")
    }

    pub fn ctr(&self) -> PathBuf {
        self.runtime.join("ctr")
    }

    pub fn runc(&self) -> PathBuf {
        self.runc.join("runc")
    }

    pub fn supervise(&self) -> PathBuf {
        self.tools.join("supervise")
    }

    /// The PATH of the components: containerd looks its shim up on it.
    pub fn path(&self) -> OsString {
        let mut path = OsString::from(&self.runtime);
        path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        path
    }
}

/// The binary of every Kubernetes component. It is `kubectl` if its file name is that.
pub(crate) fn kubernetes(progress: &Progress) -> Result<PathBuf> {
    Ok(go::kubernetes(&Cache::open()?, progress)?.join("kubernetes"))
}

/// The S3 server for the tests. It is not a part of a cluster.
pub(crate) fn versitygw(progress: &Progress) -> Result<PathBuf> {
    Ok(go::versitygw(&Cache::open()?, progress)?.join("versitygw"))
}

/// Helm, with which the tests install the chart. It is not a part of a cluster.
pub(crate) fn helm(progress: &Progress) -> Result<PathBuf> {
    Ok(go::helm(&Cache::open()?, progress)?.join("helm"))
}

type Lane = (PathBuf, Option<PathBuf>, Option<PathBuf>, Vec<PathBuf>);

fn debian_lane(cache: &Cache, profile: Profile, progress: &Progress) -> Result<Lane> {
    debian::install(progress)?;
    let tools = go::tools(cache, progress)?;
    let (older, runc) = match profile {
        Profile::Current => (None, Some(go::runc(cache, progress)?)),
        Profile::Older => (
            Some(debian::older_runtime(cache, progress)?.join("usr/bin")),
            None,
        ),
    };
    let images = images::all(cache, &tools, progress)?;
    Ok((tools, older, runc, images))
}

/// The hash of a part's inputs (versions, flags, sources) for its cache key.
pub(crate) fn digest(inputs: &[&str]) -> String {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for input in inputs {
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input.as_bytes());
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Writes embedded sources to a directory for the compiler.
fn unpack(directory: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (name, content) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(directory))?;
        std::fs::write(&path, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_text_between_inputs_changes_the_key() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["a"]).len(), 12);
    }
}
