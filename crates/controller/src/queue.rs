//! The work queue and the loop of a controller. The queue starts with all objects
//! in the cache, so a new leader reconciles each of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Config, applier};
use kube::{Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::Span;
use tracing::field::Empty;

use super::outcome::Metrics;
use hutch_api::{Sandbox, SandboxSession, annotations};
use hutch_core::sync::Lock;
use hutch_kube::apply::Error;
use hutch_kube::watches::{Cache, Change};
use hutch_telemetry::{TRACED, continues, measured};

/// Maximum number of reconciles at the same time. Those of one object never overlap.
const CONCURRENCY: u16 = 16;

/// Reconciles join the trace of the request that created or woke the sandbox for this
/// long.
const TRACE_WINDOW: Duration = Duration::from_mins(5);

/// A namespaced resource that a controller can reconcile.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Send + Sync + 'static
{
    /// The `traceparent` of the trace that a reconcile at this time joins.
    fn trace(&self, _now: Timestamp) -> Option<&str> {
        None
    }
}

impl Kind for SandboxSession {}

impl Kind for Sandbox {
    fn trace(&self, now: Timestamp) -> Option<&str> {
        let recent = |since: Option<&Time>| {
            since.is_some_and(|since| now.duration_since(since.0).unsigned_abs() < TRACE_WINDOW)
        };
        let status = self.status.as_ref();
        let woken = status.filter(|status| recent(status.last_activity.as_ref()));
        let created = || {
            let is_new = recent(self.metadata.creation_timestamp.as_ref());
            let parent = self.annotations().get(annotations::TRACEPARENT);
            parent.filter(|_| is_new)
        };
        let parent = woken.and_then(|status| status.traceparent.as_ref());
        parent.or_else(created).map(String::as_str)
    }
}

/// References to all objects in `store`.
pub fn all_of<K: Kind>(store: &Store<K>) -> Vec<ObjectRef<K>> {
    let objects = store.state();
    objects
        .iter()
        .map(|object| ObjectRef::from_obj(object.as_ref()))
        .collect()
}

/// References to the objects that `change` affects: all of `store`, or the one that
/// `name` derives from the changed object's name and its sandbox.
pub fn affected<K: Kind>(
    change: &Change,
    store: &Store<K>,
    name: impl Fn(&str, Option<&str>) -> Option<String>,
) -> Vec<ObjectRef<K>> {
    match change {
        Change::All => all_of(store),
        Change::One {
            namespace,
            name: own,
            sandbox,
        } => {
            let namespace = namespace.as_deref().unwrap_or_default();
            let name = name(own, sandbox.as_deref());
            name.map(|name| ObjectRef::new(&name).within(namespace))
                .into_iter()
                .collect()
        }
    }
}

/// The time at which each waiting object was enqueued, by namespace and name. A second
/// change does not reset it. Requeues after a timer are not counted as waiting.
#[derive(Default)]
struct EnqueueTimes(Lock<HashMap<(Option<String>, String), Instant>>);

impl EnqueueTimes {
    fn enqueued<K: Kind>(&self, object: &ObjectRef<K>) {
        let key = (object.namespace.clone(), object.name.clone());
        self.0.lock().entry(key).or_insert_with(Instant::now);
    }

    /// Removes the object when its reconcile starts or the object no longer exists, and
    /// returns the time that it waited.
    fn dequeued(&self, namespace: Option<&String>, name: &str) -> Option<Duration> {
        let since = self.0.lock().remove(&(namespace.cloned(), name.to_owned()));
        since.map(|since| since.elapsed())
    }
}

/// The span of a reconcile, in the trace of the request that created or woke the object.
fn span<K: Kind>(controller: &'static str, object: &K) -> Span {
    let span = tracing::info_span!(
        target: TRACED,
        "reconcile",
        otel.status_code = Empty,
        controller,
        namespace = object.meta().namespace,
        name = object.meta().name,
    );
    if let Some(parent) = object.trace(Timestamp::now()) {
        continues(&span, parent);
    }
    span
}

/// One controller's loop.
pub struct Loop<'a, K: Kind> {
    /// The controller's name in metrics and logs.
    pub name: &'static str,
    pub cache: &'a Cache<K>,
    pub metrics: Metrics,
    /// Stops the loop. Reconciles that have started run to their end.
    pub stop: CancellationToken,
}

impl<K: Kind> Loop<'_, K> {
    /// Reconciles all objects once and then those that `triggers` name, until stopped.
    pub async fn run<C, F>(
        self,
        triggers: impl Stream<Item = Vec<ObjectRef<K>>> + Send,
        ctx: Arc<C>,
        reconcile: impl Fn(Arc<K>, Arc<C>) -> F + Send,
        error_policy: impl Fn(Arc<K>, &Error, Arc<C>) -> Action + Send + Sync,
    ) where
        C: Send + Sync + 'static,
        F: Future<Output = Result<Action, Error>> + Send,
    {
        let (name, metrics) = (self.name, self.metrics);
        let store = self.cache.store();
        let waiting = EnqueueTimes::default();
        let first = all_of(store);
        let queue = stream::once(async { first })
            .chain(triggers)
            .flat_map(stream::iter)
            .inspect(|object| waiting.enqueued(object))
            .map(|object| Ok::<_, Infallible>(controller::ReconcileRequest::from(object)))
            .take_until(self.stop.cancelled_owned());
        let timed = |object: Arc<K>, ctx| {
            let waited = waiting.dequeued(object.meta().namespace.as_ref(), &object.name_any());
            if let Some(waited) = waited {
                metrics.record_wait(name, waited);
            }
            let span = span(name, object.as_ref());
            let call = measured(span, reconcile(object, ctx));
            let metrics = metrics.clone();
            Box::pin(async move {
                let begun = Instant::now();
                let result = call.await;
                metrics.record_duration(name, begun.elapsed());
                result
            })
        };
        let config = Config::default().concurrency(CONCURRENCY);
        applier(timed, error_policy, ctx, store.clone(), queue, config)
            .for_each(|result| {
                if let Err(controller::Error::ObjectNotFound(object)) = &result {
                    waiting.dequeued(object.namespace.as_ref(), &object.name);
                }
                metrics.record_outcome(name, &result);
                std::future::ready(())
            })
            .await;
    }
}
