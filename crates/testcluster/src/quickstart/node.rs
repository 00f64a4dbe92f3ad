//! `hutch-node` on the node of our cluster, which is this machine: what mounts
//! buckets. It is not started for a cluster that is somebody else's, whose nodes are
//! other machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::background::{self, Background, Role};
use super::place::Place;
use super::{Quickstart, identity};
use crate::pki;
use crate::progress::Progress;
use crate::shell;

const NAME: &str = "hutch-node";
/// The ServiceAccount that it acts as; `config/rbac` makes it.
const ACCOUNT: &str = "hutch-node";

/// Starts it, or keeps the one that runs; `None` where the cluster is not ours.
pub(super) fn ensure(
    quickstart: &Quickstart,
    place: &Place,
    progress: &Progress,
) -> Result<Option<Background>> {
    let Some(cluster) = &place.cluster else {
        return Ok(None);
    };
    check()?;
    let kubeconfig = identity::kubeconfig(place, ACCOUNT)?;
    let state = state(&place.folder);
    fs::create_dir_all(&state)?;
    let kubelet = cluster.kubelet_folder();
    let arguments = [
        "--node-name".to_owned(),
        pki::NODE.to_owned(),
        "--state-dir".to_owned(),
        state.display().to_string(),
        "--kubelet-dir".to_owned(),
        kubelet.display().to_string(),
    ];
    let role = Role {
        name: NAME,
        program: &quickstart.node,
        arguments: arguments.to_vec(),
        kubeconfig: &kubeconfig,
        rest: None,
        ops: 9788,
    };
    let node = Background::ensure(&role, place, progress)?;
    node.wait_until_ready()?;
    Ok(Some(node))
}

/// Stops it and ends the mounts that outlive it.
pub(super) fn stop(folder: &Path, node: &Path) -> Result<()> {
    background::stop(folder, NAME)?;
    let state = state(folder);
    if !state.exists() {
        return Ok(());
    }
    if !node.is_file() {
        bail!(
            "the mounts in {} are ended by `hutch-node --end-mounts`, and {} is not built: use `make down`, which builds it",
            state.display(),
            node.display()
        );
    }
    let mut end = Command::new(node);
    end.args(["--end-mounts", "--state-dir"]).arg(&state);
    shell::run(&mut end).context("ending the mounts of buckets")
}

/// What outlives it: which mounts there are.
fn state(folder: &Path) -> PathBuf {
    folder.join("hutch-node")
}

/// Whether buckets can be mounted on this machine.
fn check() -> Result<()> {
    if !shell::is_on_path("s3fs") {
        bail!("buckets are mounted by s3fs, which is not on PATH: apt-get install s3fs");
    }
    if !Path::new("/dev/fuse").exists() {
        bail!("buckets are mounted through /dev/fuse, which is not there: modprobe fuse");
    }
    Ok(())
}
