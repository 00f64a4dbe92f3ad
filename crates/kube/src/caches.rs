//! What each role of the operator keeps of the cluster: the facade as little as it
//! needs, as it may see no more.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::CSINode;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Config;

use super::trim;
use super::watches::{Cache, Watches};
use hutch_api::{API_KEYS, MANAGED_BY, Sandbox, SandboxSession, labels};

/// Our own kinds, which every role looks at. Cheap to clone, as all caches.
#[derive(Clone)]
pub struct Resources {
    /// Sandboxes.
    pub sandboxes: Cache<Sandbox>,
    /// Sessions.
    pub sessions: Cache<SandboxSession>,
}

impl Resources {
    /// Starts to watch one namespace, or all.
    pub fn watch(watches: &mut Watches, namespace: Option<&str>) -> Self {
        Self {
            sandboxes: watches.namespaced(namespace, Config::default(), |_| ()),
            sessions: watches.namespaced(namespace, Config::default(), |_| ()),
        }
    }
}

/// The caches of the controllers.
#[derive(Clone)]
pub struct Caches {
    /// Sandboxes.
    pub sandboxes: Cache<Sandbox>,
    /// Sessions.
    pub sessions: Cache<SandboxSession>,
    /// Pods of ours.
    pub pods: Cache<Pod>,
    /// Claims of ours.
    pub claims: Cache<PersistentVolumeClaim>,
    /// Nodes.
    pub nodes: Cache<Node>,
    /// Runtime classes.
    pub runtimes: Cache<RuntimeClass>,
    /// The CSI drivers of each node.
    pub csi_nodes: Cache<CSINode>,
    /// Volumes, those of others included: a bucket that they are of is in use.
    pub volumes: Cache<PersistentVolume>,
}

impl Caches {
    /// Starts to watch what there is beside `resources` in one namespace, or in all.
    pub fn watch(watches: &mut Watches, resources: Resources, namespace: Option<&str>) -> Self {
        let ours = || Config::default().labels(&format!("{}={MANAGED_BY}", labels::MANAGED_BY));
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

    /// Whether the node has that CSI driver, as its kubelet tells.
    pub fn has_driver(&self, node: &str, driver: &str) -> bool {
        let node = self.csi_nodes.store().get(&ObjectRef::new(node));
        node.is_some_and(|node| node.spec.drivers.iter().any(|known| known.name == driver))
    }

    /// Resolves when every cache has taken in its first listing.
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

/// The caches of the facade.
#[derive(Clone)]
pub struct FacadeCaches {
    /// Sandboxes.
    pub sandboxes: Cache<Sandbox>,
    /// Sessions.
    pub sessions: Cache<SandboxSession>,
    /// Pods of others that conversations may work in.
    pub attached_pods: Cache<Pod>,
    /// The Secret with the API keys, where they are asked for.
    pub api_keys: Option<Cache<Secret>>,
}

impl FacadeCaches {
    /// Starts to watch what there is beside `resources`: in the facade's own
    /// namespace the pods of others, in that of `keys` the one Secret.
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
