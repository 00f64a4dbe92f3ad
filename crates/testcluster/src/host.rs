//! Checks that this machine can run a cluster.

use anyhow::{Result, bail};

const ELSEWHERE: &str = "set HUTCH_KUBECONFIG to the kubeconfig of a cluster of your own instead";

/// Returns an error that says what to do if the machine cannot run a cluster.
pub(crate) fn check() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("a test cluster needs Linux: run this in a virtual machine, or {ELSEWHERE}");
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a test cluster needs root, for namespaces, mounts and cgroups: run this with sudo \
             (`sudo env \"PATH=$PATH\" testcluster …`), or {ELSEWHERE}"
        );
    }
    if rustix::thread::capability_is_in_bounding_set(rustix::thread::CapabilitySet::SYS_ADMIN)
        == Ok(false)
    {
        bail!(
            "a test cluster needs the capability to mount (CAP_SYS_ADMIN): run the container \
             privileged, or {ELSEWHERE}"
        );
    }
    Ok(())
}
