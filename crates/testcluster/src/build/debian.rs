//! The parts from Debian: packages that the machine needs, and the older container runtime.
//! The runtime is unpacked into the cache and not installed, so that its service cannot start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Cache, digest};
use crate::progress::Progress;
use crate::shell;
use crate::versions::DEBIAN;

/// A package, and files of which one exists if it is installed. dpkg would take longer.
const PACKAGES: [(&str, &[&str]); 11] = [
    ("containernetworking-plugins", &["/usr/lib/cni/bridge"]),
    ("iptables", &["/usr/sbin/iptables", "/sbin/iptables"]),
    ("iproute2", &["/usr/bin/ip", "/sbin/ip", "/usr/sbin/ip"]),
    (
        "busybox-static",
        &[
            "/usr/share/doc/busybox-static",
            "/bin/busybox",
            "/usr/bin/busybox",
        ],
    ),
    ("mmdebstrap", &["/usr/bin/mmdebstrap"]),
    (
        "debian-archive-keyring",
        &["/usr/share/keyrings/debian-archive-keyring.gpg"],
    ),
    ("libseccomp-dev", &["/usr/include/seccomp.h"]),
    ("pkg-config", &["/usr/bin/pkg-config"]),
    ("gcc", &["/usr/bin/gcc"]),
    ("s3fs", &["/usr/bin/s3fs"]),
    ("fuse", &["/usr/bin/fusermount", "/bin/fusermount"]),
];

/// Installs the missing packages.
pub(super) fn install(progress: &Progress) -> Result<()> {
    let there = |files: &[&str]| files.iter().any(|file| Path::new(file).exists());
    let missing: Vec<_> = PACKAGES
        .iter()
        .filter(|(_, files)| !there(files))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !shell::is_on_path("apt-get") {
        bail!(
            "these programs are missing, and there is no apt-get to install them: {}",
            missing.join(", ")
        );
    }
    let task = progress.task(&format!("Debian packages: {}", missing.join(", ")));
    with_lists(|| {
        shell::run(
            apt()
                .args(["install", "-y", "--no-install-recommends"])
                .args(&missing),
        )
    })?;
    task.done();
    Ok(())
}

/// The directory with the unpacked packages of Debian's containerd and runc.
pub(super) fn older_runtime(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.part(
        "debian-containerd",
        DEBIAN,
        &digest(&["containerd", "runc"]),
        |directory| {
            let task = progress.task("Debian's containerd and runc");
            with_lists(|| {
                shell::run(
                    apt()
                        .current_dir(directory)
                        .args(["download", "containerd", "runc"]),
                )
            })?;
            for entry in fs::read_dir(directory)? {
                let package = entry?.path();
                if package
                    .extension()
                    .is_some_and(|extension| extension == "deb")
                {
                    shell::run(Command::new("dpkg").arg("-x").arg(&package).arg(directory))?;
                    fs::remove_file(&package)?;
                }
            }
            task.done();
            Ok(())
        },
    )
}

/// Tries with the present package lists, then once more with updated ones.
fn with_lists(attempt: impl Fn() -> Result<()>) -> Result<()> {
    if attempt().is_ok() {
        return Ok(());
    }
    shell::run(apt().arg("update")).context("the package lists cannot be updated")?;
    attempt()
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    // Downloads go to the current directory, which apt's sandbox user may not enter.
    command.args(["-o", "APT::Sandbox::User=root"]);
    command
}
