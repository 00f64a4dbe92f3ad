//! `hutch-node`, which mounts buckets, on the node of the test cluster: this machine. It is
//! not started for a cluster of HUTCH_KUBECONFIG, because its nodes are other machines.

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
/// Its ServiceAccount; `config/rbac` creates it.
const ACCOUNT: &str = "hutch-node";
/// Variables of the caller that it gets: its own settings only. It runs as root, so it must
/// not have the database's password or the facade's S3 credentials.
const PASSED: [&str; 7] = [
    "HUTCH_ALLOW_HTTP_BUCKETS",
    "HUTCH_CA_FILE",
    "HUTCH_LOG_FORMAT",
    "HUTCH_NODE_DRIVER",
    "HUTCH_NO_CSI",
    "HUTCH_WATCH_NAMESPACE",
    "RUST_LOG",
];

/// Starts it, or keeps the running one. Returns `None` for a cluster of HUTCH_KUBECONFIG.
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
    let state = state(&place.directory);
    fs::create_dir_all(&state)?;
    let kubelet = cluster.kubelet_directory();
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
        gets_variable: |name| PASSED.contains(&name),
        rest: None,
        ops: 9788,
    };
    let node = Background::ensure(&role, place, progress)?;
    node.wait_until_ready()?;
    Ok(Some(node))
}

/// Stops it, and ends the mounts, which outlive it.
pub(super) fn stop(directory: &Path, node: &Path) -> Result<()> {
    background::stop(directory, NAME)?;
    let state = state(directory);
    if !state.exists() {
        return Ok(());
    }
    if !node.is_file() {
        bail!(
            "the mounts in {} are ended by `hutch-node --end-mounts`, and {} is not built: \
             use `make down`, which builds it",
            state.display(),
            node.display()
        );
    }
    let mut end = Command::new(node);
    end.args(["--end-mounts", "--state-dir"]).arg(&state);
    shell::run(&mut end).context("ending the mounts of buckets")
}

/// Its state directory. The list of mounts in it outlives the process.
fn state(directory: &Path) -> PathBuf {
    directory.join("hutch-node")
}

/// Returns an error that says what to do if this machine cannot mount buckets.
fn check() -> Result<()> {
    if !shell::is_on_path("s3fs") {
        bail!("buckets need s3fs, which is not on PATH: run `apt-get install s3fs`");
    }
    if !Path::new("/dev/fuse").exists() {
        bail!("buckets need /dev/fuse, which does not exist: run `modprobe fuse`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables of the settings that `ensure` passes as arguments.
    const AS_ARGUMENTS: [&str; 4] = [
        "HUTCH_KUBELET_DIR",
        "HUTCH_OPS_LISTEN",
        "HUTCH_STATE_DIR",
        "NODE_NAME",
    ];

    #[test]
    fn it_gets_its_settings_and_no_secret() {
        let settings = include_str!("../../../node/src/settings.rs");
        let mut read: Vec<_> = settings
            .split("env = \"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .chain(["RUST_LOG"])
            .filter(|name| !AS_ARGUMENTS.contains(name))
            .collect();
        read.sort_unstable();
        assert_eq!(read, PASSED);
    }
}
