//! The live door: buckets of running sandboxes, as their specs have them. It
//! watches the pods of this node and the Sandboxes; each sandbox has a worker of
//! its own, so that one whose S3 service hangs keeps nobody else waiting.
//!
//! Reading map: `worker` (one sandbox, from its pod's start to its end) → `align`
//! (mounts and spec of a
//! `running` one) → `attempt` and `mount` (one bucket into one
//! container) → `credentials` (its Secret) → `before` (what keeps the
//! volumes of one that does not run yet) → `status` (what is said of it, pure) →
//! `report` (says it) → `health` (whether it still answers).

mod align;
mod attempt;
mod before;
mod credentials;
mod health;
mod id;
mod mount;
mod report;
mod running;
mod status;
mod worker;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use kube::Client;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Error, Mounts, Process, Refusals};
use health::Health;
use hutch_api::managers;
use hutch_kube::apply::Writer;
use hutch_kube::events::Events;
use hutch_kube::lease::Leadership;
use hutch_kube::node::NodeCaches;
use hutch_kube::watches::Change;
use id::{Key, MountId};
use worker::Worker;

/// What holds for every bucket.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// Buckets may have endpoints without TLS.
    pub allow_http: bool,
}

/// The live door. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    caches: NodeCaches,
    mounts: Mounts,
    writer: Writer,
    events: Events,
    health: Health,
    settings: LiveSettings,
    refusals: Refusals,
    /// The workers that there are, to be told that something changed.
    workers: Mutex<HashMap<Key, Arc<Notify>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Live {
    /// A door to `mounts`, which tells of the other door's `refusals`; nothing happens before [`Self::run`].
    pub fn new(
        client: Client,
        caches: NodeCaches,
        mounts: Mounts,
        settings: LiveSettings,
        refusals: Refusals,
        stop: CancellationToken,
    ) -> Self {
        let writer = Writer::new(client.clone(), Leadership::always(), managers::NODE);
        Self(Arc::new(Inner {
            events: Events::new(client, Leadership::always(), managers::NODE),
            health: Health::new(mounts.clone()),
            caches,
            mounts,
            writer,
            settings,
            refusals,
            workers: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
        }))
    }

    /// Keeps every sandbox's buckets as its spec has them, until stopped. Mounts
    /// stay when it ends.
    pub async fn run(self) {
        let inner = &self.0;
        let mut changes = futures::stream::select(
            inner.caches.sandboxes.triggers(),
            inner.caches.pods.triggers(),
        );
        let mut deaths = inner.mounts.deaths();
        let mut ills = inner.health.changes();
        inner.caches.wait_until_synced().await;
        self.look_at_everything();
        let health = inner.health.clone().keep();
        inner
            .tasks
            .spawn(inner.stop.clone().run_until_cancelled_owned(health));
        loop {
            tokio::select! {
                () = inner.stop.cancelled() => break,
                change = changes.next() => match change.as_deref() {
                    Some(Change::One { namespace: Some(namespace), name, .. }) => {
                        self.look_at(Key::new(namespace, name));
                    }
                    Some(_) => self.look_at_everything(),
                    None => break,
                },
                id = deaths.recv() => self.look_at_mount(id),
                id = ills.recv() => self.look_at_mount(id),
            }
        }
        inner.tasks.close();
        inner.tasks.wait().await;
    }

    fn look_at_mount(&self, id: Result<String, broadcast::error::RecvError>) {
        match id.map(|id| MountId::parse(&id)) {
            Ok(Some(id)) => self.look_at(id.key),
            // Another door's.
            Ok(None) => {}
            Err(_) => self.look_at_everything(),
        }
    }

    /// Every pod of this node, and whatever an earlier process has left mounted.
    fn look_at_everything(&self) {
        let pods = self.0.caches.pods.store().state();
        for pod in pods {
            let meta = &pod.metadata;
            if let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) {
                self.look_at(Key::new(namespace, name));
            }
        }
        for id in self.0.mounts.ids() {
            if let Some(id) = MountId::parse(&id) {
                self.look_at(id.key);
            }
        }
    }

    /// Has the sandbox's worker look at it, which is started where there is none
    /// and there may be something to do.
    fn look_at(&self, key: Key) {
        let mut workers = self.workers();
        if let Some(worker) = workers.get(&key) {
            worker.notify_one();
            return;
        }
        let pod = self.0.caches.pods.get(&key.namespace, &key.name);
        if pod.is_none() && self.mounted(&key).is_empty() {
            return;
        }
        let wake = Arc::new(Notify::new());
        workers.insert(key.clone(), wake.clone());
        let worker = Worker::new(self.clone(), key, wake);
        let work = worker.run();
        self.0
            .tasks
            .spawn(self.0.stop.clone().run_until_cancelled_owned(work));
    }

    /// Ends the worker's entry, unless there is something for it to do again.
    fn retire(&self, key: &Key) -> bool {
        let mut workers = self.workers();
        let idle = self.0.caches.pods.get(&key.namespace, &key.name).is_none()
            && self.mounted(key).is_empty();
        if idle {
            workers.remove(key);
        }
        idle
    }

    /// What is mounted under the sandbox's name.
    fn mounted(&self, key: &Key) -> Vec<MountId> {
        let ids = self.0.mounts.ids().into_iter();
        let ids = ids.filter_map(|id| MountId::parse(&id));
        ids.filter(|id| id.key == *key).collect()
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Notify>>> {
        self.0
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a volume of the pod out of its container.
    async fn withdraw(&self, id: &MountId, process: Process, path: &Path) -> Result<(), Error> {
        let withdrawn = self.0.mounts.withdraw(process, path).await;
        match &withdrawn {
            Ok(()) => tracing::info!(%id, "unmounted in the container"),
            Err(error) => tracing::debug!(%id, %error, "not unmounted"),
        }
        withdrawn
    }

    /// Unmounts.
    async fn close(&self, id: &MountId) -> Result<(), Error> {
        let closed = self.0.mounts.close(&id.to_string()).await;
        match &closed {
            Ok(()) => tracing::info!(%id, "unmounted"),
            Err(error) => tracing::debug!(%id, %error, "not unmounted"),
        }
        closed
    }
}
