//! Caches: per kind one task that runs one watch into a store and tells two
//! kinds of listeners about changes. The trigger channel names what changed and
//! may lag, after which a listener looks at everything; the version counter only
//! says that something did. A store is always updated before its listeners hear
//! of it. Nothing here writes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::CSINode;
use kube::runtime::reflector::{Lookup, ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::trim;
use crate::crd::{MANAGED_BY, Sandbox, SandboxSession, labels};

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
        }
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Starts the watch of `api`. Each object passes `trim` before it is kept.
    pub(super) fn start(
        api: Api<K>,
        config: watcher::Config,
        trim: fn(&mut K),
        errors: WatchErrors,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (reader, writer) = store();
        let cache = Self {
            store: reader,
            changes: broadcast::Sender::new(BACKLOG),
            version: watch::Sender::new(0),
        };
        let feeder = cache.clone();
        let task = tokio::spawn(async move {
            let events = watcher(api, config.timeout(WATCH_SECONDS));
            let feed = feeder.feed(events, writer, trim, errors);
            shutdown.run_until_cancelled(feed).await;
        });
        (cache, task)
    }

    async fn feed(
        &self,
        events: impl Stream<Item = watcher::Result<Event<K>>>,
        mut writer: kube::runtime::reflector::store::Writer<K>,
        trim: fn(&mut K),
        errors: WatchErrors,
    ) {
        let kind = K::kind(&()).into_owned();
        let mut trouble = Trouble::default();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(mut event) => {
                    trouble.over(&kind, &event);
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

    /// Whether the first listing has been taken in.
    pub fn synced(&self) -> bool {
        *self.version.borrow() > 0
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
pub(super) struct WatchErrors(Family<Vec<(&'static str, String)>, Counter>);

impl WatchErrors {
    /// Errors that `registry` tells from now on.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let errors = Self::default();
        let help = "Errors of the watches that feed the caches";
        registry.register("watch_errors", help, errors.0.clone());
        errors
    }
}

/// Every cache of the operator. Cheap to clone; all clones share the stores.
#[derive(Clone)]
pub struct Caches {
    /// Sandboxes.
    pub sandboxes: Cache<Sandbox>,
    /// Sessions.
    pub sessions: Cache<SandboxSession>,
    /// Pods of ours.
    pub pods: Cache<Pod>,
    /// Pods of others that conversations may work in.
    pub guests: Cache<Pod>,
    /// Claims of ours.
    pub claims: Cache<PersistentVolumeClaim>,
    /// Nodes.
    pub nodes: Cache<Node>,
    /// Runtime classes.
    pub runtimes: Cache<RuntimeClass>,
    /// The CSI drivers of each node.
    pub csi_nodes: Cache<CSINode>,
    /// Volumes, those of others included: a bucket that they are of is in use.
    pub volumes: Cache<PersistentVolume>,
    errors: WatchErrors,
    shutdown: CancellationToken,
}

impl Caches {
    /// Starts the watches, of one namespace or of all, and returns the caches
    /// with a future that ends when all watches have ended after `shutdown`. Pods
    /// of others matter where the facade's sandboxes are.
    pub fn start(
        client: &Client,
        namespace: Option<&str>,
        facade: &str,
        shutdown: &CancellationToken,
        registry: &mut Registry,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let errors = WatchErrors::register(registry);
        let all = watcher::Config::default;
        let ours = || all().labels(&format!("{}={MANAGED_BY}", labels::MANAGED_BY));
        let theirs = || all().labels(&format!("{}=true", labels::ATTACH));
        let with = || (errors.clone(), shutdown.clone());
        macro_rules! cache {
            ($api:expr, $config:expr, $trim:expr) => {{
                let (errors, shutdown) = with();
                Cache::start($api, $config, $trim, errors, shutdown)
            }};
        }
        let (sandboxes, a) = cache!(scoped(client, namespace), all(), |_| ());
        let (sessions, b) = cache!(scoped(client, namespace), all(), |_| ());
        let (pods, c) = cache!(scoped(client, namespace), ours(), trim::pod);
        let (claims, d) = cache!(scoped(client, namespace), ours(), |_| ());
        let (nodes, e) = cache!(Api::all(client.clone()), all(), trim::node);
        let (runtimes, f) = cache!(Api::all(client.clone()), all(), |_| ());
        let (csi_nodes, g) = cache!(Api::all(client.clone()), all(), trim::csi_node);
        let (volumes, h) = cache!(Api::all(client.clone()), all(), trim::volume);
        let (guests, i) = cache!(scoped(client, Some(facade)), theirs(), trim::pod);
        let ended = async move {
            for task in [a, b, c, d, e, f, g, h, i] {
                if let Err(error) = task.await {
                    warn!(%error, "a watch ended badly");
                }
            }
        };
        let caches = Self {
            sandboxes,
            sessions,
            pods,
            guests,
            claims,
            nodes,
            runtimes,
            csi_nodes,
            volumes,
            errors,
            shutdown: shutdown.clone(),
        };
        (caches, ended)
    }

    /// Whether the node has that CSI driver, as its kubelet tells.
    pub fn has_driver(&self, node: &str, driver: &str) -> bool {
        let node = self.csi_nodes.store().get(&ObjectRef::new(node));
        node.is_some_and(|node| node.spec.drivers.iter().any(|known| known.name == driver))
    }

    /// One Secret alone, watched as long as the others.
    pub fn secret(&self, client: &Client, namespace: &str, name: &str) -> Cache<Secret> {
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let api = scoped(client, Some(namespace));
        let (errors, shutdown) = (self.errors.clone(), self.shutdown.clone());
        let (cache, _ends_with_shutdown) = Cache::start(api, one, |_| (), errors, shutdown);
        cache
    }

    /// Whether every cache has taken in its first listing.
    pub fn synced(&self) -> bool {
        self.unsynced().is_empty()
    }

    /// The kinds that are still waited for.
    pub fn unsynced(&self) -> Vec<&'static str> {
        [
            ("Sandbox", self.sandboxes.synced()),
            ("SandboxSession", self.sessions.synced()),
            ("Pod", self.pods.synced() && self.guests.synced()),
            ("PersistentVolumeClaim", self.claims.synced()),
            ("Node", self.nodes.synced()),
            ("RuntimeClass", self.runtimes.synced()),
            ("CSINode", self.csi_nodes.synced()),
            ("PersistentVolume", self.volumes.synced()),
        ]
        .into_iter()
        .filter_map(|(kind, synced)| (!synced).then_some(kind))
        .collect()
    }

    /// Resolves when every cache has taken in its first listing.
    pub async fn wait_until_synced(&self) {
        let versions = [
            self.sandboxes.changes(),
            self.sessions.changes(),
            self.pods.changes(),
            self.guests.changes(),
            self.claims.changes(),
            self.nodes.changes(),
            self.runtimes.changes(),
            self.csi_nodes.changes(),
            self.volumes.changes(),
        ];
        for mut version in versions {
            // The sender lives in `self`, so this cannot fail.
            let _ = version.wait_for(|version| *version > 0).await;
        }
    }
}

pub(super) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

#[cfg(test)]
#[path = "caches_tests.rs"]
mod tests;
