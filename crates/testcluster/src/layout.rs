//! The paths of one cluster's files. Nothing here accesses the file system.
//!
//! There are two directories. The state directory may have a path of any length. The run
//! directory `/run/hutch-testcluster/<slot>` is short, because a unix socket's path has at
//! most 107 bytes and containerd appends 67 bytes for a shim's socket.

use std::path::{Path, PathBuf};

use crate::network::Slot;

/// The directory that all test clusters of this machine share.
pub(crate) const RUN: &str = "/run/hutch-testcluster";

/// The paths of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The state directory.
    pub root: PathBuf,
    /// The run directory.
    pub run: PathBuf,
}

impl Layout {
    pub fn new(root: &Path, slot: Slot) -> Self {
        Self {
            root: root.to_path_buf(),
            run: Path::new(RUN).join(slot.number().to_string()),
        }
    }

    pub fn pki(&self, file: &str) -> PathBuf {
        self.root.join("pki").join(file)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The kubeconfig of one component.
    pub fn kubeconfig_of(&self, component: &str) -> PathBuf {
        self.pki(&format!("{component}.kubeconfig"))
    }

    pub fn config(&self, file: &str) -> PathBuf {
        self.root.join("config").join(file)
    }

    pub fn cni_config(&self) -> PathBuf {
        self.root.join("config/cni")
    }

    pub fn log(&self, component: &str) -> PathBuf {
        self.root.join("logs").join(format!("{component}.log"))
    }

    /// The record of a running process.
    pub fn record(&self, component: &str) -> PathBuf {
        self.root
            .join("processes")
            .join(format!("{component}.json"))
    }

    pub fn data(&self, of: &str) -> PathBuf {
        self.root.join("data").join(of)
    }

    /// A directory with `kubectl`, for PATH.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The kubelet's directory. It is stored in the state directory because of its size,
    /// and mounted in the run directory because drivers have their sockets below it.
    pub fn kubelet(&self) -> PathBuf {
        self.run.join("kubelet")
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    /// The directory in which containerd mounts root file systems. It is in the run
    /// directory because the root user of a user namespace must be able to enter it. It
    /// cannot enter a state directory below a home directory that is closed to others.
    pub fn containerd_state(&self) -> PathBuf {
        self.run.join("containerd")
    }

    pub fn supervisor_socket(&self) -> PathBuf {
        self.run.join("supervise.sock")
    }

    /// The directories that must exist before the first process starts.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut all = vec![self.bin(), self.cni_config(), self.kubelet()];
        all.extend(["pki", "logs", "processes", "pod-logs"].map(|name| self.root.join(name)));
        all.extend(["etcd", "kubelet", "cni"].map(|name| self.data(name)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_are_short_enough_for_any_state_directory() {
        let layout = Layout::new(Path::new("/a/very/long/path"), Slot::numbered(15));
        let shim = layout.run.join("s").join("f".repeat(64));
        let registration = "plugins_registry/ru.yandex.s3.csi-reg.sock";
        for socket in [shim, layout.kubelet().join(registration)] {
            assert!(socket.as_os_str().len() < 108);
        }
    }
}
