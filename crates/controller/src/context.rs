//! The settings that decide what a pod looks like, and the caches and writers that
//! reconciles of sandboxes share.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use tokio::sync::Mutex;

use super::backoff::RetryDelays;
use super::sandbox::expectations::Expectations;
use hutch_api::{CSI_DRIVER, Compute, SecurityProfile, managers};
use hutch_core::s3::AllowedEndpoints;
use hutch_kube::apply::Writer;
use hutch_kube::caches::Caches;
use hutch_kube::events::Events;
use hutch_kube::lease::Leadership;

/// The way the agent's binary reaches a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// An image volume if the API server and all nodes support it, otherwise an init
    /// container.
    #[default]
    Auto,
    /// A read-only volume with the content of the operator's image.
    Image,
    /// An init container that copies it into an emptyDir.
    Init,
}

/// Settings of the operator about buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// CSI driver of the volumes that Hutch creates: that of `hutch-node`, or another
    /// one in the cluster, which must accept the attributes of k8s-csi-s3.
    pub csi_driver: String,
    /// CSI driver that `hutch-node` registers. A node with it runs `hutch-node`.
    pub node_driver: String,
    /// Namespace of the Secrets that Hutch creates.
    pub operator_namespace: String,
    /// The only namespace that this controller reconciles; `None` for all. Volumes
    /// whose claim is in another namespace belong to another controller.
    pub watched: Option<String>,
    /// The endpoints that buckets may have.
    pub endpoints: AllowedEndpoints,
}

impl BucketSettings {
    /// True if `hutch-node` is the driver of the volumes.
    pub fn own_driver(&self) -> bool {
        self.csi_driver == self.node_driver
    }
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self {
            csi_driver: CSI_DRIVER.to_owned(),
            node_driver: CSI_DRIVER.to_owned(),
            operator_namespace: "hutch-system".to_owned(),
            watched: None,
            endpoints: AllowedEndpoints::default(),
        }
    }
}

/// Settings of the operator about pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSettings {
    /// Image of sandboxes that do not set one.
    pub default_image: String,
    /// Image that contains the agent: that of the operator.
    pub agent_image: String,
    /// The way the agent's binary reaches a pod.
    pub delivery: Delivery,
    /// Profile of sandboxes that do not set one. `None`: `Root` if every node supports
    /// user namespaces, otherwise `Restricted`.
    pub default_profile: Option<SecurityProfile>,
    /// Limits of sandboxes that do not set them.
    pub limits: Compute,
    /// Replaces `limits` in the namespaces that are its keys.
    pub sizes: BTreeMap<String, Compute>,
    /// Requests of sandboxes that do not set them.
    pub requests: Compute,
    /// Settings about buckets.
    pub buckets: BucketSettings,
    /// Major and minor version of the API server at the operator's start.
    pub server_version: (u32, u32),
}

impl PodSettings {
    /// Default settings with these images and this version of the API server. The
    /// default requests are low because a sandbox is idle most of the time.
    pub fn new(default_image: &str, agent_image: &str, server_version: (u32, u32)) -> Self {
        let compute = |cpu: &str, memory: &str, disk: &str| Compute {
            cpu: Some(cpu.to_owned()),
            memory: Some(memory.to_owned()),
            ephemeral_storage: Some(disk.to_owned()),
        };
        Self {
            default_image: default_image.to_owned(),
            agent_image: agent_image.to_owned(),
            delivery: Delivery::Auto,
            default_profile: None,
            limits: compute("2", "1Gi", "4Gi"),
            sizes: BTreeMap::new(),
            requests: compute("10m", "32Mi", "32Mi"),
            buckets: BucketSettings::default(),
            server_version,
        }
    }

    /// Limits of sandboxes in `namespace` that do not set them.
    pub fn limits_in(&self, namespace: Option<&str>) -> &Compute {
        let own = namespace.and_then(|namespace| self.sizes.get(namespace));
        own.unwrap_or(&self.limits)
    }
}

/// State that all reconciles of sandboxes share.
pub(crate) struct Context {
    pub caches: Caches,
    pub writer: Writer,
    pub events: Events,
    pub settings: PodSettings,
    /// Recent writes that the caches may not show yet.
    pub expectations: Expectations,
    /// Delays retries of failed reconciles, by UID of the sandbox.
    pub retries: RetryDelays,
    /// Delays the creation of a new pod after a failure, by UID and generation.
    pub replacements: RetryDelays,
    /// Held while a bucket's Secret, volume and claim are created or deleted: neither
    /// happens between two steps of the other. Only the leader creates or deletes
    /// these objects, so a process-local lock is enough.
    pub volume_lock: Mutex<()>,
}

impl Context {
    pub fn new(
        client: &Client,
        caches: Caches,
        settings: PodSettings,
        leadership: &Leadership,
    ) -> Arc<Self> {
        let events = Events::new(client.clone(), leadership.clone(), managers::SANDBOX);
        Arc::new(Self {
            caches,
            writer: Writer::new(client.clone(), leadership.clone(), managers::SANDBOX),
            events,
            settings,
            expectations: Expectations::default(),
            retries: RetryDelays::default(),
            replacements: RetryDelays::default(),
            volume_lock: Mutex::default(),
        })
    }
}
