//! What is there for a sandbox, out of the caches.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::desired::buckets::{self, BucketVolume, is_ours};
use super::desired::workspace;
use super::diagnosis;
use super::mounts::Mounter;
use crate::context::Context;
use hutch_api::Sandbox;
use hutch_core::names;

/// Everything that a plan rests on.
pub struct Observed {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// What has the name of its pod; perhaps not its pod.
    pub pod: Option<Arc<Pod>>,
    /// What has the name of its claim.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The runtime class that the spec names.
    pub runtime: Option<Arc<RuntimeClass>>,
    /// The nodes, looked up only where there is no pod.
    pub nodes: Vec<Arc<Node>>,
    /// The CSI drivers of the nodes, looked up with them.
    pub drivers: Vec<Arc<CSINode>>,
    /// Volumes of the CSI driver that mounts buckets, where the spec has any and
    /// the pod does not run yet.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// Claims of buckets that the sandbox is an owner of.
    pub bucket_claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Who mounts buckets on the pod's node.
    pub mounter: Mounter,
    /// Since when the spec is as it is, where the status does not speak of it yet.
    pub spec_changed_at: Option<Timestamp>,
    /// Whether the pod's node is there, as far as the pod has one.
    pub node_known: bool,
    /// How much longer no new pod may be made.
    pub pod_backoff: Option<Duration>,
    /// Whether the cache is waited for: look again when it should be there.
    pub lagging: bool,
}

/// Looks up what is there for `sandbox`.
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
    let node = pod
        .as_ref()
        .and_then(|pod| pod.spec.as_ref()?.node_name.clone());
    Observed {
        runtime: runtime.and_then(|name| ctx.caches.runtimes.store().get(&ObjectRef::new(name))),
        nodes: match pod {
            Some(_) => Vec::new(),
            None => nodes.state(),
        },
        drivers: match pod {
            Some(_) => Vec::new(),
            None => ctx.caches.csi_nodes.store().state(),
        },
        volumes: match &pod {
            Some(pod) if diagnosis::has_run(pod) => Vec::new(),
            _ => volumes(&sandbox, ctx),
        },
        bucket_claims: bucket_claims(&sandbox, ctx),
        mounter: mounter(node.as_deref(), ctx),
        spec_changed_at: ctx.expectations.specs.since(&sandbox, now),
        node_known: node.is_none_or(|name| nodes.get(&ObjectRef::new(&name)).is_some()),
        pod_backoff: ctx.replacements.wait(&attempt(&sandbox)),
        lagging: ctx.expectations.pods.is_pending(&uid) || ctx.expectations.claims.is_pending(&uid),
        sandbox,
        pod,
        claim,
    }
}

impl Observed {
    /// Whether volume and claim of the bucket are there.
    pub fn has(&self, volume: &BucketVolume) -> bool {
        let mut claims = self.bucket_claims.iter();
        let mut volumes = self.volumes.iter();
        let lives = |meta: &ObjectMeta| meta.deletion_timestamp.is_none();
        claims.any(|claim| lives(claim.meta()) && claim.name_any() == volume.claim)
            && volumes.any(|other| lives(other.meta()) && volume.is(other))
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
        csi.is_some_and(|csi| csi.driver == *driver) && !is_left(volume, sandbox, ctx)
    });
    all
}

/// Whether the volume's claim, in the sandbox's namespace, is gone or ending: then
/// the volume will be, too, and is not worth a word.
fn is_left(volume: &PersistentVolume, sandbox: &Sandbox, ctx: &Context) -> bool {
    let spec = volume.spec.as_ref();
    let Some(claim) = spec.and_then(|spec| spec.claim_ref.as_ref()) else {
        return false;
    };
    let (namespace, name) = (claim.namespace.as_deref(), claim.name.as_deref());
    if namespace != sandbox.metadata.namespace.as_deref() || !is_ours(volume) {
        return false;
    }
    let claim = ctx
        .caches
        .claims
        .get(namespace.unwrap_or_default(), name.unwrap_or_default());
    claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some())
}

fn bucket_claims(sandbox: &Sandbox, ctx: &Context) -> Vec<Arc<PersistentVolumeClaim>> {
    let mut all = ctx.caches.claims.store().state();
    all.retain(|claim| {
        claim.metadata.namespace == sandbox.metadata.namespace && buckets::uses(sandbox, claim)
    });
    all
}

fn mounter(node: Option<&str>, ctx: &Context) -> Mounter {
    let settings = &ctx.settings.buckets;
    Mounter {
        present: node.is_some_and(|node| ctx.caches.has_driver(node, &settings.node_driver)),
        foreign: !settings.own_driver(),
    }
}

/// What failures to make a pod are counted by: a changed spec is a new attempt.
pub fn attempt(sandbox: &Sandbox) -> String {
    let meta = sandbox.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    format!("{uid}/{}", meta.generation.unwrap_or_default())
}
