//! The versions of the test cluster's parts.
//!
//! A change here changes the cache key of that part, so the next start rebuilds only that
//! part. The Kubernetes version must be the one that `kubernetes/go.mod` requires; a test
//! checks this.

/// Kubernetes, reported by every component built from `kubernetes/`.
pub const KUBERNETES: &str = "v1.36.3";
/// containerd, its runc shim and `ctr`, as Go modules.
pub const CONTAINERD: &str = "v2.4.2";
/// runc, as a Go module.
pub const RUNC: &str = "v1.5.2";
/// The S3 server of the tests, as a Go module.
pub const VERSITYGW: &str = "v1.8.0";
/// Helm, as a Go module.
pub const HELM: &str = "v4.3.1";
/// The Debian release of the sandbox image, of the node's and of the older runtime.
pub const DEBIAN: &str = "bookworm";
/// The name of the sandbox image on the node.
pub const SANDBOX_IMAGE: &str = "docker.io/library/python:3.11-slim";
/// An image with the interpreters and checkers that the sandbox image lacks.
pub const LANGUAGES_IMAGE: &str = "hutch.dev/testcluster/languages:1";
/// A tiny image with a shell but without bash or Python.
pub const BUSYBOX_IMAGE: &str = "docker.io/library/busybox:1";
/// The image of the process that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "hutch.dev/testcluster/pause:1";

#[cfg(test)]
mod tests {
    #[test]
    fn the_go_module_requires_the_same_kubernetes() {
        let module = include_str!("../kubernetes/go.mod");
        assert!(module.contains(&format!("k8s.io/kubernetes {}\n", super::KUBERNETES)));
    }
}
