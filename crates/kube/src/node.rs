//! The caches of `hutch-node`: the sandboxes, and Hutch's pods on one node. They keep only the
//! fields that mounts need.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use kube::runtime::watcher;

use super::watches::{Cache, Watches};
use hutch_api::{Sandbox, SandboxSpec, SandboxStatus};
use hutch_core::objects::managed_selector;

/// The caches of `hutch-node`. Cheap to clone.
#[derive(Clone)]
pub struct NodeCaches {
    /// All Sandboxes, reduced to their buckets.
    pub sandboxes: Cache<Sandbox>,
    /// Hutch's pods on the node.
    pub pods: Cache<Pod>,
}

impl NodeCaches {
    /// Starts the watches of one namespace, or of all.
    pub fn watch(watches: &mut Watches, node: &str, namespace: Option<&str>) -> Self {
        let ours = watcher::Config::default()
            .labels(&managed_selector())
            .fields(&format!("spec.nodeName={node}"));
        Self {
            sandboxes: watches.namespaced(namespace, watcher::Config::default(), trim_sandbox),
            pods: watches.namespaced(namespace, ours, trim_pod),
        }
    }

    /// Returns when both caches contain their first listing.
    pub async fn wait_until_synced(&self) {
        tokio::join!(self.sandboxes.first_listing(), self.pods.first_listing());
    }
}

fn trim_sandbox(sandbox: &mut Sandbox) {
    sandbox.spec = SandboxSpec {
        buckets: std::mem::take(&mut sandbox.spec.buckets),
        ..Default::default()
    };
    sandbox.status = sandbox.status.take().map(|status| SandboxStatus {
        buckets: status.buckets,
        ..Default::default()
    });
}

/// Keeps the names and paths of a pod's volumes, and its status.
fn trim_pod(pod: &mut Pod) {
    let named = |volume: Volume| Volume {
        name: volume.name,
        ..Default::default()
    };
    let placed = |container: Container| Container {
        name: container.name,
        volume_mounts: container.volume_mounts,
        ..Default::default()
    };
    pod.spec = pod.spec.take().map(|spec| PodSpec {
        containers: spec.containers.into_iter().map(placed).collect(),
        volumes: spec.volumes.map(|all| all.into_iter().map(named).collect()),
        ..Default::default()
    });
}
