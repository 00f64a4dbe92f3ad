//! Watches: per kind one task that runs one watch into a store and tells two
//! kinds of listeners about changes. The trigger channel names what changed and
//! may lag, after which a listener looks at everything; the version counter only
//! says that something did. A store is always updated before its listeners hear
//! of it. Nothing here writes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::core::DeserializeGuard;
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

use super::unreadable::Unreadable;
use hutch_api::labels;

/// Triggers that a slow listener may fall behind by before it has to look at
/// everything.
const BACKLOG: usize = 1024;
/// A watch is ended by the server after this many seconds and taken up again
/// where it was, so that a connection that silently died is noticed.
const WATCH_SECONDS: u32 = 60;
/// First and longest wait after a watch error. Short, because the state has to
/// match the spec within seconds of the API server's return.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// Errors of one watch are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// What a watch reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object of that namespace and name changed or went away.
    One {
        /// Its namespace; `None` for a cluster-wide kind.
        namespace: Option<String>,
        /// Its name.
        name: String,
        /// Name of the sandbox that it belongs to, in the same namespace.
        sandbox: Option<String>,
    },
    /// The watch began anew: anything may have changed.
    All,
}

/// The objects of one kind, as a watch keeps them.
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
        events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>>,
        mut writer: kube::runtime::reflector::store::Writer<K>,
        trim: fn(&mut K),
        errors: WatchErrors,
    ) {
        let kind = K::kind(&()).into_owned();
        let mut trouble = Trouble::default();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    trouble.over(&kind, &event);
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
                    tokio::time::sleep(trouble.met(&kind, &error)).await;
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
        // Without a listener there is nobody to tell.
        let _ = self.changes.send(Arc::new(change));
        self.version.send_modify(|version| *version += 1);
    }
}

impl<K> Cache<K>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    /// The objects themselves.
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

    /// Whether the first listing has been taken in.
    pub fn synced(&self) -> bool {
        *self.version.borrow() > 0
    }

    /// Resolves when it has been.
    pub async fn first_listing(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.changes().wait_for(|version| *version > 0).await;
    }

    /// Changes its value after every change of the store.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What changes from now on. A listener that falls behind is told
    /// [`Change::All`] instead of what it missed.
    pub fn triggers(&self) -> impl Stream<Item = Arc<Change>> + Send + 'static {
        BroadcastStream::new(self.changes.subscribe()).map(|received| match received {
            Ok(change) => change,
            Err(BroadcastStreamRecvError::Lagged(_)) => Arc::new(Change::All),
        })
    }
}

/// The sandbox that an object belongs to: its controller if that is a Sandbox,
/// else what the label says (a retained claim has no owner).
fn sandbox_of<K: Resource<DynamicType = ()>>(object: &K) -> Option<String> {
    object
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Sandbox")
        .map(|owner| owner.name.clone())
        .or_else(|| object.labels().get(labels::SANDBOX).cloned())
}

/// Errors of one watch: how long to wait, and whether to log.
#[derive(Default)]
struct Trouble {
    failures: u32,
    logged: Option<Instant>,
}

impl Trouble {
    fn met(&mut self, kind: &str, error: &watcher::Error) -> Duration {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            if missing(error) {
                warn!(
                    kind,
                    "the API server does not know this kind yet: waiting for its CRD"
                );
            } else {
                warn!(kind, %error, "watch failed, trying again");
            }
        }
        let wait = RETRY
            .0
            .saturating_mul(1 << self.failures.min(8))
            .min(RETRY.1);
        self.failures += 1;
        wait
    }

    fn over<K>(&mut self, kind: &str, event: &Event<K>) {
        // `Init` only says that a listing is going to be tried.
        if self.failures > 0 && !matches!(event, Event::Init) {
            debug!(kind, failures = self.failures, "watch works again");
            if self.logged.is_some() {
                info!(kind, "watch works again");
            }
            *self = Self::default();
        }
    }
}

fn missing(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            if status.code == 404
    )
}

/// Watch errors by kind.
#[derive(Clone, Default)]
struct WatchErrors(Family<Vec<(&'static str, String)>, Counter>);

/// The watches of a process, which begin here and end together.
pub struct Watches {
    client: Client,
    errors: WatchErrors,
    listings: Listings,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Watches {
    /// None yet; `registry` tells their errors.
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

    /// Starts a watch of one namespace, or of all. Each object passes `trim`
    /// before it is kept.
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
        api: Api<DeserializeGuard<K>>,
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

    /// The first listings of all that have begun.
    pub fn listings(&self) -> Listings {
        self.listings.clone()
    }

    /// Ends them.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An object that a cache can keep.
pub trait Watched: Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K: Clone + Debug + DeserializeOwned + Send + Sync + 'static> Watched for K {}

/// Which first listings are still waited for.
#[derive(Clone, Default)]
pub struct Listings(Vec<(String, watch::Receiver<u64>)>);

impl Listings {
    /// The kinds that are.
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
