//! The role of the controllers: it competes for the lease and runs the controllers and the
//! projector while it holds the lease.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Process;
use super::config::{bucket_settings, pod_settings};
use crate::settings::Controller;
use hutch_controller::Controllers;
use hutch_controller::context::BucketSettings;
use hutch_db::{Database, Projector};
use hutch_kube::caches::Caches;
use hutch_kube::lease::{Leadership, LeaseSettings};
use hutch_link::Pool;
use hutch_store::projects::ProjectSandboxStore;

/// Name of the lease. The roles in the chart name it too.
const LEASE: &str = "hutch-controller";
/// The pause between two attempts to reach the API server.
const VERSION_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The parts of the role.
struct Role {
    client: Client,
    caches: Caches,
    pool: Arc<Pool>,
    database: Arc<Database>,
    registry: Arc<Mutex<Registry>>,
    /// The facade's namespace, which has the sandboxes of projects.
    namespace: String,
    lease_namespace: String,
    settings: Controller,
    buckets: BucketSettings,
    shutdown: CancellationToken,
}

impl Process {
    /// Runs the controllers until the shutdown. The task ends after the lease was released.
    pub(super) fn controllers(&self, settings: Controller, caches: Caches) -> JoinHandle<()> {
        let lease_namespace = settings.lease_namespace.as_ref();
        let lease_namespace = lease_namespace.unwrap_or(&self.config.default_namespace);
        let role = Role {
            client: self.client.clone(),
            caches,
            pool: self.pool.clone(),
            database: self.database.clone(),
            registry: self.registry.clone(),
            namespace: self.namespace.clone(),
            lease_namespace: lease_namespace.clone(),
            buckets: bucket_settings(&settings, &self.buckets, self.operator_namespace()),
            settings,
            shutdown: self.shutdown.clone(),
        };
        tokio::spawn(role.run())
    }
}

impl Role {
    async fn run(self) {
        let shutdown = self.shutdown.clone();
        let version = server_version(&self.client);
        let Some(version) = shutdown.run_until_cancelled(version).await else {
            return;
        };
        let release_lease = CancellationToken::new();
        let (leadership, campaign) = self.campaign(release_lease.clone());
        let projector = self.projector(&leadership);
        let projector = tokio::spawn(shutdown.clone().run_until_cancelled_owned(projector));
        self.build(version, leadership).run(shutdown).await;
        // It ends with `shutdown` too.
        let _ = projector.await;
        release_lease.cancel();
        if let Some(campaign) = campaign {
            // It ends when it has released the lease.
            let _ = campaign.await;
        }
    }

    /// Competes for the lease until `stop`, unless the settings switch the lease off.
    fn campaign(&self, stop: CancellationToken) -> (Leadership, Option<JoinHandle<()>>) {
        if self.settings.no_leader_election {
            return (Leadership::always(), None);
        }
        let lease = LeaseSettings::new(&self.lease_namespace, LEASE, &identity());
        let (leadership, campaign) = Leadership::campaign(&self.client, lease, stop);
        (leadership, Some(tokio::spawn(campaign)))
    }

    /// Keeps the database equal to the sandboxes. Ends at once if no database is configured.
    fn projector(&self, leadership: &Leadership) -> impl Future<Output = ()> + Send + use<> {
        let database = self.database.clone();
        let sandboxes = ProjectSandboxStore::new(
            &self.client,
            self.caches.sandboxes.clone(),
            leadership.clone(),
            self.namespace.clone(),
        );
        async move {
            if database.configured() {
                Projector::new(database, Arc::new(sandboxes)).run().await;
            }
        }
    }

    fn build(self, version: (u32, u32), leadership: Leadership) -> Controllers {
        let pods = pod_settings(&self.settings, self.buckets, version);
        let registry = self.registry.lock();
        let mut registry = registry.unwrap_or_else(PoisonError::into_inner);
        Controllers::new(
            self.client,
            self.caches,
            self.pool,
            pods,
            leadership,
            &mut registry,
        )
    }
}

/// The name of this process among the replicas: the pod's name, and a random part, because
/// a restarted container has the same pod name.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "hutch".to_owned());
    format!("{host}-{}", uuid::Uuid::new_v4())
}

/// Major and minor version of the API server. Waits until the API server answers.
async fn server_version(client: &Client) -> (u32, u32) {
    loop {
        match client.apiserver_version().await {
            Ok(info) => {
                let number = |text: &str| {
                    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
                    digits.parse().unwrap_or(0)
                };
                tracing::info!("API server {}", info.git_version);
                return (number(&info.major), number(&info.minor));
            }
            Err(error) => {
                tracing::warn!(%error, "the API server does not answer, trying again");
                tokio::time::sleep(VERSION_RETRY_DELAY).await;
            }
        }
    }
}
