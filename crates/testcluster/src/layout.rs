//! Where every file of one cluster is. Pure: paths only.
//!
//! Two places: the state folder, which may have a path of any length, and the
//! run folder `/run/hutch-testcluster/<slot>`, short because a unix socket's
//! path ends at 107 bytes and containerd appends 67 of its own to a shim's.

use std::path::{Path, PathBuf};

use crate::network::Slot;

/// The folder that all test clusters of this machine share.
pub(crate) const RUN: &str = "/run/hutch-testcluster";

/// The paths of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The state folder.
    pub root: PathBuf,
    /// The run folder.
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

    /// A folder with `kubectl` in it, for PATH.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The kubelet's folder. It lies in the state folder, for its size, and is
    /// mounted in the run folder, for the sockets of drivers below it.
    pub fn kubelet(&self) -> PathBuf {
        self.run.join("kubelet")
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    /// Where containerd mounts root file systems. In the run folder because the
    /// root of a user namespace has to get there, and a state folder below
    /// somebody's home, which others may not enter, is out of its reach.
    pub fn containerd_state(&self) -> PathBuf {
        self.run.join("containerd")
    }

    pub fn supervisor_socket(&self) -> PathBuf {
        self.run.join("supervise.sock")
    }

    /// Every folder that has to exist before anything starts.
    pub fn folders(&self) -> Vec<PathBuf> {
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
    fn sockets_fit_into_a_unix_address_wherever_the_state_folder_is() {
        let layout = Layout::new(Path::new("/a/very/long/path"), Slot::numbered(15));
        let shim = layout.run.join("s").join("f".repeat(64));
        let registration = "plugins_registry/ru.yandex.s3.csi-reg.sock";
        for socket in [shim, layout.kubelet().join(registration)] {
            assert!(socket.as_os_str().len() < 108);
        }
    }
}
