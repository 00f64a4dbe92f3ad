//! The caches of `hutch node`: the pods of ours that are on one node, and the
//! sandboxes, of each what the mounts need and nothing else.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use kube::Client;
use kube::runtime::watcher;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::caches::{Cache, WatchErrors, scoped};
use crate::crd::{MANAGED_BY, Sandbox, SandboxSpec, SandboxStatus, labels};

/// What `hutch node` watches. Cheap to clone.
#[derive(Clone)]
pub struct NodeCaches {
    /// Sandboxes, with their buckets alone.
    pub sandboxes: Cache<Sandbox>,
    /// Pods of ours on the node.
    pub pods: Cache<Pod>,
}

impl NodeCaches {
    /// Starts the watches, of one namespace or of all, and returns the caches with
    /// a future that ends when the watches have ended after `shutdown`.
    pub fn start(
        client: &Client,
        node: &str,
        namespace: Option<&str>,
        shutdown: &CancellationToken,
        registry: &mut Registry,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let errors = WatchErrors::register(registry);
        let ours = watcher::Config::default()
            .labels(&format!("{}={MANAGED_BY}", labels::MANAGED_BY))
            .fields(&format!("spec.nodeName={node}"));
        let (sandboxes, a) = Cache::start(
            scoped(client, namespace),
            watcher::Config::default(),
            trim_sandbox,
            errors.clone(),
            shutdown.clone(),
        );
        let pods = scoped(client, namespace);
        let (pods, b) = Cache::start(pods, ours, trim_pod, errors, shutdown.clone());
        let ended = async move {
            for task in [a, b] {
                if let Err(error) = task.await {
                    warn!(%error, "a watch ended badly");
                }
            }
        };
        (Self { sandboxes, pods }, ended)
    }

    /// The kinds that are still waited for.
    pub fn unsynced(&self) -> Vec<&'static str> {
        [
            ("Sandbox", self.sandboxes.synced()),
            ("Pod", self.pods.synced()),
        ]
        .into_iter()
        .filter_map(|(kind, synced)| (!synced).then_some(kind))
        .collect()
    }

    /// Resolves when both caches have taken in their first listing.
    pub async fn wait_until_synced(&self) {
        for mut version in [self.sandboxes.changes(), self.pods.changes()] {
            // The sender lives in `self`, so this cannot fail.
            let _ = version.wait_for(|version| *version > 0).await;
        }
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

/// Keeps the names of a pod's volumes, where its containers have those, and how they
/// are.
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
