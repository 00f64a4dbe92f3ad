//! A snapshot of everything that a reconcile of one sandbox needs, from the caches.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::desired::buckets::{self, BucketVolume};
use super::desired::workspace;
use super::diagnosis;
use super::mounts::MountSupport;
use crate::context::Context;
use hutch_api::Sandbox;
use hutch_core::names;
use hutch_core::objects::{claim_of, is_ending, is_managed, node_name};

/// The observation that a plan is based on.
pub struct Observed {
    pub sandbox: Arc<Sandbox>,
    /// The pod with the name of the sandbox's pod. It may belong to somebody else.
    pub pod: Option<Arc<Pod>>,
    /// The claim with the name of the workspace's claim. It may belong to somebody else.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The runtime class that the spec names.
    pub runtime: Option<Arc<RuntimeClass>>,
    /// All nodes. Empty if there is a pod.
    pub nodes: Vec<Arc<Node>>,
    /// The CSI drivers of the nodes. Empty if there is a pod.
    pub drivers: Vec<Arc<CSINode>>,
    /// Volumes of the CSI driver that mounts buckets. Empty if the spec has no buckets or
    /// the pod has run.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// The claims of buckets that the sandbox owns, alone or with others.
    pub bucket_claims: Vec<Arc<PersistentVolumeClaim>>,
    /// The programs that mount buckets on the pod's node.
    pub mount_support: MountSupport,
    /// The time of the spec's last change, if the status does not cover it yet.
    pub spec_changed_at: Option<Timestamp>,
    /// False if the pod has a node and that node does not exist.
    pub node_known: bool,
    /// The time until a new pod may be created, after failures.
    pub pod_backoff: Option<Duration>,
    /// True if the cache does not show the controller's last write yet.
    pub cache_lags: bool,
}

/// Reads the caches for `sandbox`.
pub fn observe(sandbox: Arc<Sandbox>, ctx: &Context, now: Timestamp) -> Observed {
    let sandbox = ctx.expectations.statuses.latest(sandbox);
    let uid = sandbox.uid().unwrap_or_default();
    let namespace = sandbox.namespace().unwrap_or_default();
    let pod_name = names::pod(&sandbox.name_any());
    let pod = ctx.caches.pods.get(&namespace, &pod_name);
    let pod = ctx.expectations.pods.latest(&uid, pod);
    let claim =
        workspace::claim_name(&sandbox).and_then(|name| ctx.caches.claims.get(&namespace, &name));
    let claim = ctx.expectations.claims.latest(&uid, claim);
    let runtime = sandbox.spec.runtime_class_name.as_ref();
    let nodes = ctx.caches.nodes.store();
    let node = pod.as_deref().and_then(node_name);
    let (all_nodes, drivers) = match pod {
        Some(_) => (Vec::new(), Vec::new()),
        None => (nodes.state(), ctx.caches.csi_nodes.store().state()),
    };
    Observed {
        runtime: runtime.and_then(|name| ctx.caches.runtimes.store().get(&ObjectRef::new(name))),
        nodes: all_nodes,
        drivers,
        volumes: match &pod {
            Some(pod) if diagnosis::has_run(pod) => Vec::new(),
            _ => volumes(&sandbox, ctx),
        },
        bucket_claims: bucket_claims(&sandbox, ctx),
        mount_support: mount_support(node, ctx),
        spec_changed_at: ctx.expectations.specs.since(&sandbox, now),
        node_known: node.is_none_or(|name| nodes.get(&ObjectRef::new(name)).is_some()),
        pod_backoff: ctx.replacements.wait(&attempt_key(&sandbox)),
        cache_lags: ctx.expectations.pods.is_pending(&uid)
            || ctx.expectations.claims.is_pending(&uid),
        sandbox,
        pod,
        claim,
    }
}

impl Observed {
    /// True if the bucket's volume and claim exist and are not ending.
    pub fn has(&self, volume: &BucketVolume) -> bool {
        let mut claims = self.bucket_claims.iter();
        let mut volumes = self.volumes.iter();
        claims.any(|claim| !is_ending(&claim.metadata) && claim.name_any() == volume.claim)
            && volumes.any(|other| !is_ending(&other.metadata) && volume.matches(other))
    }
}

fn volumes(sandbox: &Sandbox, ctx: &Context) -> Vec<Arc<PersistentVolume>> {
    if sandbox.spec.buckets.is_empty() {
        return Vec::new();
    }
    let driver = &ctx.settings.buckets.csi_driver;
    let mut all = ctx.caches.volumes.store().state();
    all.retain(|volume| {
        let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        csi.is_some_and(|csi| csi.driver == *driver) && !is_abandoned(volume, sandbox, ctx)
    });
    all
}

/// True if the volume's claim, in the sandbox's namespace, is gone or ending. `sweep` deletes
/// such a volume soon, so it is no obstacle.
fn is_abandoned(volume: &PersistentVolume, sandbox: &Sandbox, ctx: &Context) -> bool {
    let Some((namespace, name)) = claim_of(volume) else {
        return false;
    };
    if Some(namespace) != sandbox.metadata.namespace.as_deref() || !is_managed(&volume.metadata) {
        return false;
    }
    let claim = ctx.caches.claims.get(namespace, name);
    claim.is_none_or(|claim| is_ending(&claim.metadata))
}

fn bucket_claims(sandbox: &Sandbox, ctx: &Context) -> Vec<Arc<PersistentVolumeClaim>> {
    let mut all = ctx.caches.claims.store().state();
    all.retain(|claim| {
        claim.metadata.namespace == sandbox.metadata.namespace && buckets::is_owner(sandbox, claim)
    });
    all
}

fn mount_support(node: Option<&str>, ctx: &Context) -> MountSupport {
    let settings = &ctx.settings.buckets;
    MountSupport {
        node_component: node.is_some_and(|node| ctx.caches.has_driver(node, &settings.node_driver)),
        foreign_driver: !settings.own_driver(),
    }
}

/// The key of the backoff of new pods: UID and generation, because a changed spec is a new
/// attempt.
pub fn attempt_key(sandbox: &Sandbox) -> String {
    let meta = sandbox.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    format!("{uid}/{}", meta.generation.unwrap_or_default())
}
