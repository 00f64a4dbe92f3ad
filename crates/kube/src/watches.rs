//! Watches: one task per kind, which fills a store and notifies two kinds of listeners. A
//! trigger names the changed object; a listener that lags gets one trigger for all objects
//! instead. The version counter only says that something has changed. The store is updated
//! before its listeners are notified. Nothing here writes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::runtime::reflector::{Lookup, ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::guarded::Guarded;
use super::unreadable::Unreadable;
use hutch_api::labels;
use hutch_core::backoff::Backoff;

/// Triggers that a slow listener may lag behind. After more it gets [`Change::All`].
const BACKLOG: usize = 1024;
/// The server ends a watch after this many seconds, and the client resumes it. So a dead
/// connection is noticed.
const WATCH_SECONDS: u32 = 60;
/// Waits after a watch error. They are short, because reconciles must continue within seconds
/// when the API server is back.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(4));
/// Shortest time between two log lines about one watch.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// A change that a watch has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object of that namespace and name was created, changed or deleted.
    One {
        /// The namespace. `None` for a cluster-wide kind.
        namespace: Option<String>,
        /// The name.
        name: String,
        /// Name of the sandbox that the object belongs to, in the same namespace.
        sandbox: Option<String>,
    },
    /// The watch has started again: anything may have changed.
    All,
}

/// The objects of one kind. A watch keeps them current.
pub struct Cache<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    store: Store<K>,
    changes: broadcast::Sender<Arc<Change>>,
    version: watch::Sender<u64>,
    unreadable: Arc<Unreadable>,
}

impl<K> Clone for Cache<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            changes: self.changes.clone(),
            version: self.version.clone(),
            unreadable: self.unreadable.clone(),
        }
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Watched,
{
    async fn feed(
        &self,
        events: impl Stream<Item = watcher::Result<Event<Guarded<K>>>>,
        mut writer: kube::runtime::reflector::store::Writer<K>,
        trim: fn(&mut K),
        errors: WatchErrors,
    ) {
        let kind = K::kind(&()).into_owned();
        let mut failures = Failures::default();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    failures.end(&kind, &event);
                    let Some(mut event) = self.unreadable.filter(event, &self.store) else {
                        continue;
                    };
                    if let Event::Apply(object) | Event::InitApply(object) = &mut event {
                        object.managed_fields_mut().clear();
                        trim(object);
                    }
                    writer.apply_watcher_event(&event);
                    self.announce(&event);
                }
                Err(error) => {
                    errors.0.get_or_create(&vec![("kind", kind.clone())]).inc();
                    tokio::time::sleep(failures.add(&kind, &error)).await;
                }
            }
        }
    }

    fn announce(&self, event: &Event<K>) {
        let change = match event {
            Event::Apply(object) | Event::Delete(object) => Change::One {
                namespace: object.meta().namespace.clone(),
                name: object.name_any(),
                sandbox: sandbox_of(object),
            },
            Event::InitDone => Change::All,
            Event::Init | Event::InitApply(_) => return,
        };
        // An error means that there is no listener.
        let _ = self.changes.send(Arc::new(change));
        self.version.send_modify(|version| *version += 1);
    }
}

impl<K> Cache<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    /// The store of the objects.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// The object of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// True if the API server has an object of that name that does not decode: a newer
    /// Hutch has written it, for instance. The cache keeps its last version that did
    /// decode, or does not have it. Do not take such an object for deleted.
    pub fn is_unreadable(&self, namespace: &str, name: &str) -> bool {
        self.unreadable.contains(namespace, name)
    }

    /// True if a newer version of this object does not decode.
    pub fn has_unreadable(&self, object: &K) -> bool
    where
        K: Resource,
    {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let name = object.meta().name.as_deref().unwrap_or_default();
        self.is_unreadable(namespace, name)
    }

    /// True if the cache contains the first listing.
    pub fn synced(&self) -> bool {
        *self.version.borrow() > 0
    }

    /// Returns when the cache contains the first listing.
    pub async fn first_listing(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.changes().wait_for(|version| *version > 0).await;
    }

    /// A counter that grows with every change of the store. 0 means no listing yet.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The changes from now on. A listener that lags gets [`Change::All`] in place of the
    /// changes that it has missed.
    pub fn triggers(&self) -> impl Stream<Item = Arc<Change>> + Send + 'static {
        BroadcastStream::new(self.changes.subscribe()).map(|received| match received {
            Ok(change) => change,
            Err(BroadcastStreamRecvError::Lagged(_)) => Arc::new(Change::All),
        })
    }
}

/// The sandbox that an object belongs to: its controller if that is a Sandbox, else the value
/// of the label, because a retained claim has no owner.
fn sandbox_of<K: Resource<DynamicType = ()>>(object: &K) -> Option<String> {
    object
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Sandbox")
        .map(|owner| owner.name.clone())
        .or_else(|| object.labels().get(labels::SANDBOX).cloned())
}

/// The errors of one watch since its last success.
#[derive(Default)]
struct Failures {
    failures: u32,
    logged: Option<Instant>,
}

impl Failures {
    fn add(&mut self, kind: &str, error: &watcher::Error) -> Duration {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            if is_unknown_kind(error) {
                warn!(
                    kind,
                    "the API server does not know this kind yet: waiting for its CRD"
                );
            } else {
                warn!(kind, %error, "watch failed, trying again");
            }
        }
        self.failures += 1;
        RETRY.after(self.failures)
    }

    fn end<K>(&mut self, kind: &str, event: &Event<K>) {
        // `Init` only says that a listing begins.
        if self.failures > 0 && !matches!(event, Event::Init) {
            debug!(kind, failures = self.failures, "watch works again");
            if self.logged.is_some() {
                info!(kind, "watch works again");
            }
            *self = Self::default();
        }
    }
}

fn is_unknown_kind(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            if status.code == 404
    )
}

/// Counts watch errors by kind.
#[derive(Clone, Default)]
struct WatchErrors(Family<Vec<(&'static str, String)>, Counter>);

/// All watches of a process.
pub struct Watches {
    client: Client,
    errors: WatchErrors,
    listings: Listings,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Watches {
    /// No watches yet. `registry` gets the counter of their errors.
    pub fn new(client: Client, registry: &mut Registry) -> Self {
        let errors = WatchErrors::default();
        let help = "Errors of the watches that feed the caches";
        registry.register("watch_errors", help, errors.0.clone());
        Self {
            client,
            errors,
            listings: Listings::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Starts a watch of one namespace, or of all. `trim` removes unused fields of each
    /// object.
    pub(super) fn namespaced<K>(
        &mut self,
        namespace: Option<&str>,
        config: watcher::Config,
        trim: fn(&mut K),
    ) -> Cache<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Watched,
    {
        let client = self.client.clone();
        let api = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        self.start(api, config, trim)
    }

    /// Starts a watch of a cluster-wide kind.
    pub(super) fn cluster_wide<K>(&mut self, trim: fn(&mut K)) -> Cache<K>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Watched,
    {
        let api = Api::all(self.client.clone());
        self.start(api, watcher::Config::default(), trim)
    }

    fn start<K>(
        &mut self,
        api: Api<Guarded<K>>,
        config: watcher::Config,
        trim: fn(&mut K),
    ) -> Cache<K>
    where
        K: Resource<DynamicType = ()> + Watched,
    {
        let (reader, writer) = store();
        let cache = Cache {
            store: reader,
            changes: broadcast::Sender::new(BACKLOG),
            version: watch::Sender::new(0),
            unreadable: Arc::default(),
        };
        self.listings
            .0
            .push((K::kind(&()).into_owned(), cache.changes()));
        let (feeder, errors, stop) = (cache.clone(), self.errors.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let events = watcher(api, config.timeout(WATCH_SECONDS));
            let feed = feeder.feed(events, writer, trim, errors);
            stop.run_until_cancelled(feed).await;
        });
        cache
    }

    /// The state of the first listings.
    pub fn listings(&self) -> Listings {
        self.listings.clone()
    }

    /// Ends all watches.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An object that a cache can contain.
pub trait Watched: Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K: Clone + Debug + DeserializeOwned + Send + Sync + 'static> Watched for K {}

/// The first listings of all watches.
#[derive(Clone, Default)]
pub struct Listings(Vec<(String, watch::Receiver<u64>)>);

impl Listings {
    /// The kinds whose first listing is missing.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.0.iter().filter(|(_, version)| *version.borrow() == 0);
        let mut kinds: Vec<_> = missing.map(|(kind, _)| kind.clone()).collect();
        kinds.dedup();
        kinds
    }
}

#[cfg(test)]
#[path = "watches_tests.rs"]
mod tests;
