//! What the controllers are given: the settings that shape pods, as plain data,
//! and the handles to caches and writers.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use tokio::sync::Mutex;

use super::backoff::Backoff;
use super::outcome::Metrics;
use super::sandbox::expectations::Expectations;
use hutch_api::{CSI_DRIVER, Compute, SecurityProfile, managers};
use hutch_kube::apply::Writer;
use hutch_kube::caches::Caches;
use hutch_kube::events::Events;
use hutch_kube::lease::Leadership;

/// How the agent's binary comes into a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// By image volume where server and nodes can do it, else by init container.
    #[default]
    Auto,
    /// As a read-only volume of the operator's image.
    Image,
    /// Copied by an init container.
    Init,
}

/// The operator's part in how buckets come into sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// The CSI driver of the volumes that are made: `hutch node`'s, or another one
    /// that the cluster runs, taken for k8s-csi-s3.
    pub csi_driver: String,
    /// The driver by which a node is known to run `hutch node`.
    pub node_driver: String,
    /// Namespace of the Secrets that are made.
    pub operator_namespace: String,
    /// Namespace that this controller reconciles, or all: only volumes of claims
    /// in there are its own.
    pub watched: Option<String>,
    /// Whether endpoints may be without TLS.
    pub allow_http: bool,
}

impl BucketSettings {
    /// Whether the driver of the volumes is that of `hutch node`.
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
            allow_http: false,
        }
    }
}

/// The operator's part in what a pod looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSettings {
    /// Image of sandboxes that name none.
    pub default_image: String,
    /// Image that holds the agent: the operator's own.
    pub agent_image: String,
    /// How the agent's binary comes into a pod.
    pub delivery: Delivery,
    /// Profile of sandboxes that name none. Unset: what the nodes can do.
    pub default_profile: Option<SecurityProfile>,
    /// Limits of sandboxes that name none.
    pub limits: Compute,
    /// The same of single namespaces.
    pub sizes: BTreeMap<String, Compute>,
    /// Requests of sandboxes that name none.
    pub requests: Compute,
    /// How buckets come into it.
    pub buckets: BucketSettings,
    /// Major and minor version of the API server, as discovered at start.
    pub server_version: (u32, u32),
}

impl PodSettings {
    /// The settings with every default but the images and the server's version.
    /// The requests are low because a sandbox idles most of its life.
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

    /// Limits of sandboxes in that namespace that name none.
    pub fn limits_in(&self, namespace: Option<&str>) -> &Compute {
        let own = namespace.and_then(|namespace| self.sizes.get(namespace));
        own.unwrap_or(&self.limits)
    }
}

/// What every reconcile of a sandbox can reach.
pub struct Context {
    /// The caches, for reading.
    pub caches: Caches,
    /// The API server, for writing.
    pub writer: Writer,
    /// Events on sandboxes.
    pub events: Events,
    /// The settings that shape pods.
    pub settings: PodSettings,
    /// Recent writes that the caches may not show yet.
    pub expectations: Expectations,
    /// When a failed reconcile is tried again.
    pub retries: Backoff,
    /// When a pod that failed may be replaced again.
    pub replacements: Backoff,
    /// Held while a bucket's Secret, volume and claim are made or taken away, so
    /// that neither happens between two steps of the other. Who does not lead
    /// does neither.
    pub volumes: Mutex<()>,
    /// Counters and durations.
    pub metrics: Metrics,
}

impl Context {
    /// A context that has seen nothing yet.
    pub fn new(
        client: &Client,
        caches: Caches,
        settings: PodSettings,
        leadership: &Leadership,
        metrics: Metrics,
    ) -> Arc<Self> {
        let events = Events::new(client.clone(), leadership.clone(), managers::SANDBOX);
        Arc::new(Self {
            caches,
            writer: Writer::new(client.clone(), leadership.clone(), managers::SANDBOX),
            events,
            settings,
            expectations: Expectations::default(),
            retries: Backoff::default(),
            replacements: Backoff::default(),
            volumes: Mutex::default(),
            metrics,
        })
    }
}
