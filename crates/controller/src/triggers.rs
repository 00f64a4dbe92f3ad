//! The objects that each controller reconciles when something changes.

use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};

use super::queue::{affected, all_of};
use hutch_api::{Phase, Sandbox, SandboxSession};
use hutch_core::conditions;
use hutch_core::reasons::Reason;
use hutch_kube::caches::Caches;
use hutch_kube::watches::Change;

/// Sessions to reconcile: those that changed, and those whose sandbox changed.
pub fn orphan_triggers(
    caches: &Caches,
) -> impl Stream<Item = Vec<ObjectRef<SandboxSession>>> + Send + 'static {
    let store = caches.sessions.store().clone();
    let own = caches.sessions.triggers();
    let own = own.map(move |change| affected(&change, &store, |own, _| Some(own.to_owned())));
    let store = caches.sessions.store().clone();
    let of_sandboxes = caches.sandboxes.triggers();
    stream::select(
        own,
        of_sandboxes.map(move |change| sessions_of(&change, &store)),
    )
}

/// Sandboxes whose sessions need a reconcile: those that changed, and those with a
/// session that changed. A session without an owner reference names its sandbox only
/// in its spec.
pub fn session_triggers(
    caches: &Caches,
) -> impl Stream<Item = Vec<ObjectRef<Sandbox>>> + Send + 'static {
    let store = caches.sandboxes.store().clone();
    let own = caches.sandboxes.triggers();
    let own = own.map(move |change| affected(&change, &store, |own, _| Some(own.to_owned())));
    let store = caches.sandboxes.store().clone();
    let cache = caches.sessions.clone();
    let of_sessions = caches.sessions.triggers().map(move |change| {
        affected(&change, &store, |own, sandbox| {
            let owner = sandbox.map(str::to_owned);
            owner.or_else(|| match change.as_ref() {
                Change::One { namespace, .. } => {
                    let session = cache.get(namespace.as_deref().unwrap_or_default(), own)?;
                    Some(session.spec.sandbox_name.clone())
                }
                Change::All => None,
            })
        })
    });
    stream::select(own, of_sessions)
}

/// Sandboxes to reconcile:
///
/// - those that changed, or whose pod or claim changed;
/// - if a node changes: those that wait for nodes;
/// - if a node's CSI drivers change: those with buckets on that node;
/// - if a volume changes: those with buckets that may wait for it.
pub fn sandbox_triggers(
    caches: &Caches,
) -> impl Stream<Item = Vec<ObjectRef<Sandbox>>> + Send + 'static {
    let store = || caches.sandboxes.store().clone();
    let sandboxes = store();
    let own = caches
        .sandboxes
        .triggers()
        .map(move |change| affected(&change, &sandboxes, |own, _| Some(own.to_owned())));
    let sandboxes = store();
    let pods = caches
        .pods
        .triggers()
        .map(move |change| affected(&change, &sandboxes, |_, owner| owner.map(str::to_owned)));
    let sandboxes = store();
    let claims = caches
        .claims
        .triggers()
        .map(move |change| affected(&change, &sandboxes, |_, owner| owner.map(str::to_owned)));
    let sandboxes = store();
    let nodes = caches.nodes.triggers().map(move |_| {
        let all = sandboxes.state();
        all.iter()
            .filter(|sandbox| waits_for_nodes(sandbox))
            .map(|sandbox| ObjectRef::from_obj(sandbox.as_ref()))
            .collect()
    });
    let sandboxes = store();
    let drivers = caches.csi_nodes.triggers().map(move |change| {
        with_buckets(&sandboxes, |sandbox| match change.as_ref() {
            Change::All => true,
            Change::One { name, .. } => {
                let status = sandbox.status.as_ref();
                status.and_then(|status| status.node.as_ref()) == Some(name)
            }
        })
    });
    let sandboxes = store();
    let volumes = caches.volumes.triggers().map(move |_| {
        with_buckets(&sandboxes, |sandbox| {
            let phase = sandbox.status.as_ref().map(|status| status.phase);
            matches!(phase, Some(Phase::Pending | Phase::Failed))
        })
    });
    let own = stream::select(stream::select(own, pods), stream::select(claims, nodes));
    stream::select(own, stream::select(drivers, volumes))
}

fn with_buckets(
    store: &Store<Sandbox>,
    wanted: impl Fn(&Sandbox) -> bool,
) -> Vec<ObjectRef<Sandbox>> {
    let all = store.state();
    all.iter()
        .filter(|sandbox| !sandbox.spec.buckets.is_empty() && wanted(sandbox))
        .map(|sandbox| ObjectRef::from_obj(sandbox.as_ref()))
        .collect()
}

/// True if the state of the nodes keeps the sandbox without a pod, or keeps its pod
/// from ending.
fn waits_for_nodes(sandbox: &Sandbox) -> bool {
    let conditions = sandbox.status.as_ref().map(|status| &status.conditions);
    conditions
        .and_then(|all| conditions::find(all, conditions::READY))
        .is_some_and(|ready| {
            ready.reason == Reason::UserNamespacesUnsupported || ready.reason == Reason::PodStuck
        })
}

fn sessions_of(change: &Change, store: &Store<SandboxSession>) -> Vec<ObjectRef<SandboxSession>> {
    let Change::One {
        namespace, name, ..
    } = change
    else {
        return all_of(store);
    };
    let all = store.state();
    all.iter()
        .filter(|session| session.spec.sandbox_name == *name && session.namespace() == *namespace)
        .map(|session| ObjectRef::from_obj(session.as_ref()))
        .collect()
}
