//! The one place that builds the parts and joins them, and the order in which
//! they end: requests are drained first, then reconciles, then the lease is
//! given back, then the watches stop.

mod facade;
mod keys;
mod shapes;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};
use crate::settings::{Buckets, Common, Controller, Facade};
use hutch_api::Sandbox;
use hutch_controller::Controllers;
use hutch_core::interfaces::{DatabaseState, Integration, Projects};
use hutch_db::{Database, Projector};
use hutch_kube::caches::{Caches, FacadeCaches, Resources};
use hutch_kube::client;
use hutch_kube::lease::{Leadership, LeaseSettings};
use hutch_kube::watches::{Cache, Listings, Watches};
use hutch_link::Pool;
use hutch_process::{Ops, cancel_on_signal, listen};
use hutch_store::projects::ProjectSandboxStore;
use shapes::{bucket_settings, pod_settings, pool_settings, target};

/// Does what the command line says, until it is done or a signal ends it.
///
/// # Errors
/// When the process cannot start: no cluster configured, a port taken.
pub fn main(cli: Cli) -> anyhow::Result<ExitCode> {
    let (common, controller, facade) = match cli.command {
        Command::Crds(to) if to.reference => {
            print!("{}", hutch_api::reference());
            return Ok(ExitCode::SUCCESS);
        }
        Command::Crds(to) => return crds(to.write.as_deref()).map(|()| ExitCode::SUCCESS),
        Command::Keys(keys) => return block_on(keys::edit(keys)),
        Command::Run(run) => (run.common, Some(run.controller), Some(run.facade)),
        Command::Controller(run) => (run.common, Some(run.controller), None),
        Command::Facade(run) => (run.common, None, Some(run.facade)),
    };
    if let Some(facade) = &facade {
        facade.check().map_err(anyhow::Error::msg)?;
    }
    block_on(serve(common, controller, facade))
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?
        .block_on(work)
        .map(|()| ExitCode::SUCCESS)
}

fn crds(folder: Option<&Path>) -> anyhow::Result<()> {
    for crd in hutch_api::definitions() {
        let text = serde_yaml_ng::to_string(&crd)?;
        let Some(folder) = folder else {
            println!("---\n{}", text.trim_end());
            continue;
        };
        let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// What every role shares.
struct Process {
    config: Config,
    client: Client,
    /// The channels to the agents, which all roles share.
    pool: Arc<Pool>,
    /// The shared database, or that there is none.
    database: Arc<Database>,
    /// Namespace of the facade's sandboxes, which projects are about.
    namespace: String,
    buckets: Buckets,
    /// The one namespace that the caches have, where it is one.
    watched: Option<String>,
    registry: Arc<Mutex<Registry>>,
    /// Ends the listeners and the controllers.
    shutdown: CancellationToken,
}

async fn serve(
    common: Common,
    controller: Option<Controller>,
    facade: Option<Facade>,
) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix("hutch");
    let service = match (&controller, &facade) {
        (Some(_), None) => "hutch-controller",
        (None, Some(_)) => "hutch-facade",
        _ => "hutch",
    };
    let (format, otlp) = (common.log_format, common.otlp_endpoint.as_deref());
    let traces = hutch_telemetry::start_with_traces(format, otlp, service, &mut registry)
        .context("traces cannot be sent: see --otlp-endpoint")?;
    let config = kube::Config::infer()
        .await
        .context("no cluster to work on: set KUBECONFIG, or run in a pod with a service account")?;
    let client = client::connect(&config).context("the cluster's configuration cannot be used")?;
    let namespace = common.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let database = Database::new(target(&common.database)?, &mut registry);
    let watched = watched(controller.as_ref(), facade.as_ref(), &namespace);
    let mut watches = Watches::new(client.clone(), &mut registry);
    let resources = Resources::watch(&mut watches, watched.as_deref());
    let pool = Pool::new(client.clone(), pool_settings(facade.as_ref()));
    let process = Process {
        config,
        client,
        pool,
        database,
        namespace,
        buckets: common.buckets.clone(),
        watched,
        registry: Arc::new(Mutex::new(registry)),
        shutdown: CancellationToken::new(),
    };
    tokio::spawn(cancel_on_signal(process.shutdown.clone()));

    process.keep();
    let for_facade = facade.map(|facade| {
        let keys = (!facade.access.insecure_no_auth).then(|| process.operator_namespace());
        let (own, keys) = (process.namespace.as_str(), keys.as_deref());
        let caches = FacadeCaches::watch(&mut watches, resources.clone(), own, keys);
        (facade, caches)
    });
    let for_controllers = controller.map(|controller| {
        let namespace = controller.watch_namespace.as_deref();
        let caches = Caches::watch(&mut watches, resources, namespace);
        (controller, caches)
    });
    let stop_ops = CancellationToken::new();
    let ops = process.ops(&common, watches.listings(), stop_ops.clone());
    let ops = ops.await?;
    let facade = match for_facade {
        Some((facade, caches)) => Some(process.facade(facade, caches).await?),
        None => None,
    };
    let controllers =
        for_controllers.map(|(settings, caches)| process.controllers(settings, caches));
    for part in [facade, controllers].into_iter().flatten() {
        part.await.context("a part ended badly")?;
    }
    process.shutdown.cancelled().await;
    watches.stop().await;
    stop_ops.cancel();
    ops.await.context("the ops listener ended badly")?;
    if let Some(traces) = traces {
        tokio::task::spawn_blocking(|| traces.end()).await?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The one namespace that the caches need, if one is enough: keys lead to any.
fn watched(controller: Option<&Controller>, facade: Option<&Facade>, home: &str) -> Option<String> {
    match (controller, facade) {
        (Some(controller), _) => controller.watch_namespace.clone(),
        (None, Some(facade)) if !facade.access.insecure_no_auth => None,
        _ => Some(home.to_owned()),
    }
}

impl Process {
    /// What keeps the channels and the database in order, to the end.
    fn keep(&self) {
        tokio::spawn(self.pool.clone().run());
        let database = self.database.clone();
        tokio::spawn(async move { database.run().await });
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Probes are answered until everything else has ended.
    async fn ops(
        &self,
        common: &Common,
        listings: Listings,
        stop: CancellationToken,
    ) -> anyhow::Result<JoinHandle<()>> {
        let (registry, database) = (self.registry.clone(), self.database.clone());
        let ops = Ops {
            waiting_for: Box::new(move || listings.missing()),
            database: Some(Box::new(move || summary(&database.state()))),
            metrics: Box::new(move || hutch_telemetry::metrics(&registry)),
        };
        let listener = listen(common.ops_listen, "--ops-listen").await?;
        tracing::info!("probes and metrics on http://{}", listener.local_addr()?);
        Ok(tokio::spawn(ops.serve(listener, stop)))
    }

    /// Where the Secrets of buckets are.
    fn operator_namespace(&self) -> String {
        let own = &self.config.default_namespace;
        let named = self.buckets.operator_namespace.as_ref();
        named.unwrap_or(own).clone()
    }

    fn controllers(&self, settings: Controller, caches: Caches) -> JoinHandle<()> {
        let buckets = bucket_settings(&settings, &self.buckets, self.operator_namespace());
        let (client, pool) = (self.client.clone(), self.pool.clone());
        let (registry, shutdown) = (self.registry.clone(), self.shutdown.clone());
        let (database, namespace) = (self.database.clone(), self.namespace.clone());
        let lease_namespace = settings
            .lease_namespace
            .clone()
            .unwrap_or_else(|| self.config.default_namespace.clone());
        tokio::spawn(async move {
            let discovered = shutdown.run_until_cancelled(server_version(&client)).await;
            let Some(version) = discovered else { return };
            let end_of_lease = CancellationToken::new();
            let (leadership, campaign) = if settings.no_leader_election {
                (Leadership::always(), None)
            } else {
                let lease = LeaseSettings::new(&lease_namespace, "hutch-controller", &identity());
                let (leadership, campaign) =
                    Leadership::campaign(&client, lease, end_of_lease.clone());
                (leadership, Some(tokio::spawn(campaign)))
            };
            let projector = projector(
                database,
                &client,
                caches.sandboxes.clone(),
                &leadership,
                namespace,
            );
            let projector = tokio::spawn(shutdown.clone().run_until_cancelled_owned(projector));
            let controllers = {
                let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
                let pods = pod_settings(&settings, buckets, version);
                Controllers::new(client, caches, pool, pods, leadership, &mut registry)
            };
            controllers.run(shutdown).await;
            // Ends with `shutdown`, too.
            let _ = projector.await;
            end_of_lease.cancel();
            if let Some(campaign) = campaign {
                // Ends by itself when the lease has been given back.
                let _ = campaign.await;
            }
        })
    }
}

/// Keeps the database in line with the sandboxes, where there is one.
fn projector(
    database: Arc<Database>,
    client: &Client,
    sandboxes: Cache<Sandbox>,
    leadership: &Leadership,
    namespace: String,
) -> impl Future<Output = ()> + Send + 'static {
    let sandboxes = ProjectSandboxStore::new(client, sandboxes, leadership.clone(), namespace);
    async move {
        if database.configured() {
            Projector::new(database, Arc::new(sandboxes)).run().await;
        }
    }
}

/// The state of the database, for `/readyz`.
fn summary(database: &DatabaseState) -> String {
    let since = &database.since;
    match (database.integration, &database.last_error) {
        (Integration::Connected, _) => format!("connected since {since:.0}"),
        (Integration::NotConfigured, _) => "none is configured".to_owned(),
        (Integration::Away, None) => format!("away since {since:.0}"),
        (Integration::Away, Some(error)) => format!("away since {since:.0}: {error}"),
    }
}

/// Who this process is among the replicas: the pod's name, and something that a
/// second process of that name would not share.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "hutch".to_owned());
    format!("{host}-{}", uuid::Uuid::new_v4())
}

/// Major and minor version of the API server; waits for a server that is away.
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
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
