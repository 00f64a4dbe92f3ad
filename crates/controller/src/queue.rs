//! Which objects are to be reconciled when something changes, and the loop that
//! does it. A queue begins with everything there is, so that a new leader leaves
//! nothing out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use hutch_kube::apply::Error;
use hutch_kube::watches::{Cache, Change};
use hutch_telemetry::{TRACED, continues, measured};

/// Reconciles at the same time, of different objects.
const CONCURRENCY: u16 = 16;

/// How long after a request made or woke a sandbox its reconciles are a part of that.
const STARTING: Duration = Duration::from_mins(5);

/// What a kind has to be to have a controller.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Send + Sync + 'static
{
    /// The trace that a reconcile of the object at that time is a part of.
    fn trace(&self, _now: Timestamp) -> Option<&str> {
        None
    }
}

impl Kind for SandboxSession {}

impl Kind for Sandbox {
    fn trace(&self, now: Timestamp) -> Option<&str> {
        let recent = |since: Option<&Time>| {
            since.is_some_and(|since| now.duration_since(since.0).unsigned_abs() < STARTING)
        };
        let status = self.status.as_ref();
        let woken = status.filter(|status| recent(status.last_activity.as_ref()));
        let made = || {
            let made = recent(self.metadata.creation_timestamp.as_ref());
            let parent = self.annotations().get(annotations::TRACEPARENT);
            parent.filter(|_| made)
        };
        let parent = woken.and_then(|status| status.traceparent.as_ref());
        parent.or_else(made).map(String::as_str)
    }
}

/// References to everything in `store`.
pub fn everything<K: Kind>(store: &Store<K>) -> Vec<ObjectRef<K>> {
    let objects = store.state();
    objects
        .iter()
        .map(|object| ObjectRef::from_obj(object.as_ref()))
        .collect()
}

/// A reference of what `change` names by `name`, or to everything.
pub fn named<K: Kind>(
    change: &Change,
    store: &Store<K>,
    name: impl Fn(&str, Option<&str>) -> Option<String>,
) -> Vec<ObjectRef<K>> {
    match change {
        Change::All => everything(store),
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

/// Since when objects that changed wait for their reconcile, by namespace and name.
/// One that waits already goes on waiting; one that is only due again does not wait.
#[derive(Default)]
struct Waiting(Mutex<HashMap<(Option<String>, String), Instant>>);

impl Waiting {
    fn all(&self) -> MutexGuard<'_, HashMap<(Option<String>, String), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn came<K: Kind>(&self, object: &ObjectRef<K>) {
        let key = (object.namespace.clone(), object.name.clone());
        self.all().entry(key).or_insert_with(Instant::now);
    }

    /// Its reconcile begins, or it is gone and has none.
    fn left(&self, namespace: Option<&String>, name: &str) -> Option<Duration> {
        let since = self.all().remove(&(namespace.cloned(), name.to_owned()));
        since.map(|since| since.elapsed())
    }
}

/// The span of a reconcile, in the trace of the request that made or woke the object.
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
    /// Name of the controller, for metrics and logs.
    pub name: &'static str,
    /// The objects that it reconciles.
    pub cache: &'a Cache<K>,
    /// Where its reconciles are counted.
    pub metrics: Metrics,
    /// Ends the loop; what has begun by then is ended properly.
    pub stop: CancellationToken,
}

impl<K: Kind> Loop<'_, K> {
    /// Runs `reconcile` on everything there is and on what `triggers` name, until
    /// stopped.
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
        let waiting = Waiting::default();
        let first = everything(store);
        let queue = stream::once(async { first })
            .chain(triggers)
            .flat_map(stream::iter)
            .inspect(|object| waiting.came(object))
            .map(|object| Ok::<_, Infallible>(controller::ReconcileRequest::from(object)))
            .take_until(self.stop.cancelled_owned());
        let timed = |object: Arc<K>, ctx| {
            let waited = waiting.left(object.meta().namespace.as_ref(), &object.name_any());
            if let Some(waited) = waited {
                metrics.waited(name, waited);
            }
            let span = span(name, object.as_ref());
            let call = measured(span, reconcile(object, ctx));
            let metrics = metrics.clone();
            Box::pin(async move {
                let begun = Instant::now();
                let result = call.await;
                metrics.took(name, begun.elapsed());
                result
            })
        };
        let config = Config::default().concurrency(CONCURRENCY);
        applier(timed, error_policy, ctx, store.clone(), queue, config)
            .for_each(|result| {
                if let Err(controller::Error::ObjectNotFound(object)) = &result {
                    waiting.left(object.namespace.as_ref(), &object.name);
                }
                metrics.outcome(name, &result);
                std::future::ready(())
            })
            .await;
    }
}
