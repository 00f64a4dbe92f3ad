//! Which objects are to be reconciled when something changes, and the loop that
//! does it. A queue begins with everything there is, so that a new leader leaves
//! nothing out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Config, applier};
use tokio_util::sync::CancellationToken;

use super::outcome::Metrics;
use crate::cluster::apply::Error;
use crate::cluster::watches::{Cache, Change};

/// Reconciles at the same time, of different objects.
const CONCURRENCY: u16 = 16;

/// What a kind has to be to have a controller.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Send + Sync + 'static
{
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
        let first = everything(store);
        let queue = stream::once(async { first })
            .chain(triggers)
            .flat_map(stream::iter)
            .map(|object| Ok::<_, Infallible>(controller::ReconcileRequest::from(object)))
            .take_until(self.stop.cancelled_owned());
        let timed = |object, ctx| {
            let call = reconcile(object, ctx);
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
                metrics.outcome(name, &result);
                std::future::ready(())
            })
            .await;
    }
}
