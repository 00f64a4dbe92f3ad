//! Live mounts: mounts the buckets of running sandboxes as their specs require. It watches
//! the pods of this node and the Sandboxes. Each sandbox has a worker of its own, so that one
//! whose S3 service hangs does not delay the others.
//!
//! | module | contents |
//! | --- | --- |
//! | `worker` | one sandbox, from its pod's start to its end |
//! | `running`, `align` | a running container; aligns its mounts with the spec |
//! | `steps`, `tasks` | the next step for one bucket; the running tasks |
//! | `attempt` | the state of one bucket in one container (pure) |
//! | `mount` | mounts one bucket in one container |
//! | `credentials` | reads a bucket's Secret |
//! | `volume_refusals` | reports volumes that the kubelet could not mount, before the container runs |
//! | `status`, `entries`, `report` | build the status entries and write them |
//! | `health` | checks the mounts |
//! | `id` | the IDs of live mounts |

mod align;
mod attempt;
mod credentials;
mod entries;
mod health;
mod id;
mod mount;
mod report;
mod running;
mod status;
mod steps;
mod tasks;
mod volume_refusals;
mod worker;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Error, Mounts, Process, Refusals};
use health::HealthMonitor;
use hutch_api::managers;
use hutch_core::s3::AllowedEndpoints;
use hutch_core::sync::Lock;
use hutch_kube::apply::Writer;
use hutch_kube::events::Events;
use hutch_kube::lease::Leadership;
use hutch_kube::node::NodeCaches;
use hutch_kube::watches::Change;
use id::{MountId, ObjectKey};
use worker::Worker;

/// Settings for all live mounts.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// The endpoints that are allowed.
    pub endpoints: AllowedEndpoints,
}

/// Live mounts of this node. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    caches: NodeCaches,
    mounts: Mounts,
    writer: Writer,
    events: Events,
    health: HealthMonitor,
    settings: LiveSettings,
    refusals: Refusals,
    /// Wakes each worker when something has changed.
    workers: Lock<HashMap<ObjectKey, Arc<Notify>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Live {
    /// Creates the parts. Nothing happens before [`Self::run`]. `refusals` come from the CSI
    /// driver and are reported in the status of sandboxes.
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
            health: HealthMonitor::new(mounts.clone()),
            caches,
            mounts,
            writer,
            settings,
            refusals,
            workers: Lock::default(),
            tasks: TaskTracker::new(),
            stop,
        }))
    }

    /// Aligns the mounts of all sandboxes with their specs until it is stopped. Mounts stay
    /// when it ends.
    pub async fn run(self) {
        let inner = &self.0;
        let mut changes = futures::stream::select(
            inner.caches.sandboxes.triggers(),
            inner.caches.pods.triggers(),
        );
        let mut deaths = inner.mounts.deaths();
        let mut health_changes = inner.health.changes();
        inner.caches.wait_until_synced().await;
        self.wake_all();
        let health = inner.health.clone().run();
        inner
            .tasks
            .spawn(inner.stop.clone().run_until_cancelled_owned(health));
        loop {
            tokio::select! {
                () = inner.stop.cancelled() => break,
                change = changes.next() => match change.as_deref() {
                    Some(Change::One { namespace: Some(namespace), name, .. }) => {
                        self.wake_worker(ObjectKey::new(namespace, name));
                    }
                    Some(_) => self.wake_all(),
                    None => break,
                },
                id = deaths.recv() => self.wake_worker_of(id),
                id = health_changes.recv() => self.wake_worker_of(id),
            }
        }
        inner.tasks.close();
        inner.tasks.wait().await;
    }

    /// Wakes the worker of a mount's sandbox, or all workers if messages were missed.
    fn wake_worker_of(&self, id: Result<String, broadcast::error::RecvError>) {
        match id.map(|id| MountId::parse(&id)) {
            Ok(Some(id)) => self.wake_worker(id.key),
            // A mount of the CSI driver.
            Ok(None) => {}
            Err(_) => self.wake_all(),
        }
    }

    /// Wakes the workers of all pods of this node, and of the mounts that an earlier process has
    /// left.
    fn wake_all(&self) {
        let pods = self.0.caches.pods.store().state();
        for pod in pods {
            let meta = &pod.metadata;
            if let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) {
                self.wake_worker(ObjectKey::new(namespace, name));
            }
        }
        for id in self.0.mounts.ids() {
            if let Some(id) = MountId::parse(&id) {
                self.wake_worker(id.key);
            }
        }
    }

    /// Wakes the sandbox's worker. If none exists, one is started, unless the sandbox has
    /// neither a pod nor mounts here.
    fn wake_worker(&self, key: ObjectKey) {
        let mut workers = self.0.workers.lock();
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

    /// Removes the worker's entry and returns `true`, unless the sandbox has a pod or mounts
    /// here again.
    fn retire(&self, key: &ObjectKey) -> bool {
        let mut workers = self.0.workers.lock();
        let idle = self.0.caches.pods.get(&key.namespace, &key.name).is_none()
            && self.mounted(key).is_empty();
        if idle {
            workers.remove(key);
        }
        idle
    }

    /// The live mounts under the sandbox's name, of any UID.
    fn mounted(&self, key: &ObjectKey) -> Vec<MountId> {
        let ids = self.0.mounts.ids().into_iter();
        let ids = ids.filter_map(|id| MountId::parse(&id));
        ids.filter(|id| id.key == *key).collect()
    }

    /// Unmounts a volume of the pod in the container.
    async fn unmount_in_container(
        &self,
        id: &MountId,
        process: Process,
        path: &Path,
    ) -> Result<(), Error> {
        let unmounted = self.0.mounts.unmount_in_container(process, path).await;
        match &unmounted {
            Ok(()) => tracing::info!(%id, "unmounted in the container"),
            Err(error) => tracing::debug!(%id, %error, "not unmounted"),
        }
        unmounted
    }

    /// Detaches a mount and ends its mounter.
    async fn close(&self, id: &MountId) -> Result<(), Error> {
        let closed = self.0.mounts.close(&id.to_string()).await;
        match &closed {
            Ok(()) => tracing::info!(%id, "unmounted"),
            Err(error) => tracing::debug!(%id, %error, "not unmounted"),
        }
        closed
    }
}
