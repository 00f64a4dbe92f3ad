//! What is there for a sandbox, out of the caches.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::desired::workspace;
use crate::controllers::context::Context;
use crate::crd::Sandbox;
use crate::domain::names;

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
    /// Whether the pod's node is there, as far as the pod has one.
    pub node_known: bool,
    /// How much longer no new pod may be made.
    pub wait: Option<Duration>,
    /// Whether the cache is waited for: look again when it should be there.
    pub lagging: bool,
}

/// Looks up what is there for `sandbox`.
pub fn observe(sandbox: Arc<Sandbox>, ctx: &Context) -> Observed {
    let sandbox = ctx.recent.statuses.newer(sandbox);
    let uid = sandbox.uid().unwrap_or_default();
    let namespace = sandbox.namespace().unwrap_or_default();
    let pod_name = names::pod(&sandbox.name_any());
    let pod = ctx.caches.pods.get(&namespace, &pod_name);
    let pod = ctx.recent.pods.newer(&uid, pod);
    let claim =
        workspace::claim_name(&sandbox).and_then(|name| ctx.caches.claims.get(&namespace, &name));
    let claim = ctx.recent.claims.newer(&uid, claim);
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
        node_known: node.is_none_or(|name| nodes.get(&ObjectRef::new(&name)).is_some()),
        wait: ctx.replacements.wait(&attempt(&sandbox)),
        lagging: ctx.recent.pods.expects(&uid) || ctx.recent.claims.expects(&uid),
        sandbox,
        pod,
        claim,
    }
}

/// What failures to make a pod are counted by: a changed spec is a new attempt.
pub fn attempt(sandbox: &Sandbox) -> String {
    let meta = sandbox.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    format!("{uid}/{}", meta.generation.unwrap_or_default())
}
