//! The caches of each role. The facade has permission for few kinds, so it caches few.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::CSINode;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Config;

use super::trim;
use super::watches::{Cache, Watches};
use hutch_api::{API_KEYS, Sandbox, SandboxSession, labels};
use hutch_core::objects::managed_selector;

/// The caches of the custom resources, which every role uses. Cheap to clone.
#[derive(Clone)]
pub struct Resources {
    /// All Sandboxes of the watched namespaces.
    pub sandboxes: Cache<Sandbox>,
    /// All SandboxSessions of the watched namespaces.
    pub sessions: Cache<SandboxSession>,
}

impl Resources {
    /// Starts the watches of one namespace, or of all.
    pub fn watch(watches: &mut Watches, namespace: Option<&str>) -> Self {
        Self {
            sandboxes: watches.namespaced(namespace, Config::default(), |_| ()),
            sessions: watches.namespaced(namespace, Config::default(), |_| ()),
        }
    }
}

/// The caches of the controllers. Cheap to clone.
#[derive(Clone)]
pub struct Caches {
    /// All Sandboxes of the watched namespaces.
    pub sandboxes: Cache<Sandbox>,
    /// All SandboxSessions of the watched namespaces.
    pub sessions: Cache<SandboxSession>,
    /// Pods that Hutch manages.
    pub pods: Cache<Pod>,
    /// Claims that Hutch manages.
    pub claims: Cache<PersistentVolumeClaim>,
    /// All nodes, without their images and heartbeats.
    pub nodes: Cache<Node>,
    /// All runtime classes.
    pub runtimes: Cache<RuntimeClass>,
    /// The CSI drivers of each node.
    pub csi_nodes: Cache<CSINode>,
    /// All volumes, because those of others may use the same bucket.
    pub volumes: Cache<PersistentVolume>,
}

impl Caches {
    /// Starts the other watches of one namespace, or of all.
    pub fn watch(watches: &mut Watches, resources: Resources, namespace: Option<&str>) -> Self {
        let ours = || Config::default().labels(&managed_selector());
        Self {
            sandboxes: resources.sandboxes,
            sessions: resources.sessions,
            pods: watches.namespaced(namespace, ours(), trim::pod),
            claims: watches.namespaced(namespace, ours(), |_| ()),
            nodes: watches.cluster_wide(trim::node),
            runtimes: watches.cluster_wide(|_| ()),
            csi_nodes: watches.cluster_wide(trim::csi_node),
            volumes: watches.cluster_wide(trim::volume),
        }
    }

    /// True if the node's kubelet has registered that CSI driver.
    pub fn has_driver(&self, node: &str, driver: &str) -> bool {
        let node = self.csi_nodes.store().get(&ObjectRef::new(node));
        node.is_some_and(|node| node.spec.drivers.iter().any(|known| known.name == driver))
    }

    /// Returns when every cache contains its first listing.
    pub async fn wait_until_synced(&self) {
        tokio::join!(
            self.sandboxes.first_listing(),
            self.sessions.first_listing(),
            self.pods.first_listing(),
            self.claims.first_listing(),
            self.nodes.first_listing(),
            self.runtimes.first_listing(),
            self.csi_nodes.first_listing(),
            self.volumes.first_listing(),
        );
    }
}

/// The caches of the facade. Cheap to clone.
#[derive(Clone)]
pub struct FacadeCaches {
    /// All Sandboxes of the watched namespaces.
    pub sandboxes: Cache<Sandbox>,
    /// All SandboxSessions of the watched namespaces.
    pub sessions: Cache<SandboxSession>,
    /// Attached pods.
    pub attached_pods: Cache<Pod>,
    /// The Secret with the API keys, if requests need one.
    pub api_keys: Option<Cache<Secret>>,
}

impl FacadeCaches {
    /// Starts the other watches: attached pods in `namespace`, the facade's own, and the one
    /// Secret in the namespace `keys`.
    pub fn watch(
        watches: &mut Watches,
        resources: Resources,
        namespace: &str,
        keys: Option<&str>,
    ) -> Self {
        let theirs = Config::default().labels(&format!("{}=true", labels::ATTACH));
        let one = Config::default().fields(&format!("metadata.name={API_KEYS}"));
        Self {
            sandboxes: resources.sandboxes,
            sessions: resources.sessions,
            attached_pods: watches.namespaced(Some(namespace), theirs, trim::pod),
            api_keys: keys.map(|keys| watches.namespaced(Some(keys), one, |_| ())),
        }
    }
}
