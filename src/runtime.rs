//! Builds the parts and joins them. They end in this order: the facade after the requests in
//! progress, the controllers after their reconciles, the lease, the watches, the probes.

mod config;
mod controllers;
mod crds;
mod facade;
mod keys;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};
use crate::settings::{Buckets, Common, Controller, Facade};
use config::{database_target, pool_settings};
use hutch_core::interfaces::{DatabaseState, Integration, Projects};
use hutch_db::Database;
use hutch_kube::caches::{Caches, FacadeCaches, Resources};
use hutch_kube::client;
use hutch_kube::watches::{Listings, Watches};
use hutch_link::Pool;
use hutch_process::{Ops, cancel_on_signal, listen};
use hutch_telemetry::Traces;

/// Executes the command line.
///
/// # Errors
/// If the process cannot start, for example without a cluster or with a port in use.
pub fn main(cli: Cli) -> anyhow::Result<ExitCode> {
    let (common, controller, facade) = match cli.command {
        Command::Crds(arguments) => {
            return crds::write(&arguments).map(|()| ExitCode::SUCCESS);
        }
        Command::Keys(keys) => return block_on(keys::edit(keys)),
        Command::Run(run) => (run.common, Some(run.controller), Some(run.facade)),
        Command::Controller(run) => (run.common, Some(run.controller), None),
        Command::Facade(run) => (run.common, None, Some(run.facade)),
    };
    if let Some(facade) = &facade {
        facade.check().map_err(anyhow::Error::msg)?;
    }
    block_on(run(common, controller, facade))
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?
        .block_on(work)
        .map(|()| ExitCode::SUCCESS)
}

/// The parts that all roles share.
struct Process {
    config: Config,
    client: Client,
    /// The channels to the agents.
    pool: Arc<Pool>,
    /// The shared database; it may be one that is not configured.
    database: Arc<Database>,
    /// The facade's namespace, which has the sandboxes of projects.
    namespace: String,
    buckets: Buckets,
    /// The only namespace of the caches; `None` for all namespaces.
    watched: Option<String>,
    registry: Arc<Mutex<Registry>>,
    /// Stops the listeners and the controllers.
    shutdown: CancellationToken,
}

/// Runs the given roles until a signal stops them.
async fn run(
    common: Common,
    controller: Option<Controller>,
    facade: Option<Facade>,
) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix("hutch");
    let service = service_name(controller.as_ref(), facade.as_ref());
    let traces = start_telemetry(&common, service, &mut registry)?;
    let process = Process::new(&common, controller.as_ref(), facade.as_ref(), registry).await?;
    tokio::spawn(cancel_on_signal(process.shutdown.clone()));
    process.spawn_background();

    let mut watches = Watches::new(process.client.clone(), &mut process.registry());
    let resources = Resources::watch(&mut watches, process.watched.as_deref());
    let facade = facade.map(|settings| {
        let caches = process.facade_caches(&settings, &mut watches, resources.clone());
        (settings, caches)
    });
    let controller = controller.map(|settings| {
        let namespace = settings.watch_namespace.as_deref();
        let caches = Caches::watch(&mut watches, resources, namespace);
        (settings, caches)
    });
    let stop_ops = CancellationToken::new();
    let ops = process.ops(&common, watches.listings(), stop_ops.clone());
    let ops = ops.await?;
    process.run_roles(controller, facade).await?;
    watches.stop().await;
    stop_ops.cancel();
    ops.await.context("the ops listener ended badly")?;
    if let Some(traces) = traces {
        tokio::task::spawn_blocking(|| traces.end()).await?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The name of the process in traces.
const fn service_name(controller: Option<&Controller>, facade: Option<&Facade>) -> &'static str {
    match (controller, facade) {
        (Some(_), None) => "hutch-controller",
        (None, Some(_)) => "hutch-facade",
        _ => "hutch",
    }
}

fn start_telemetry(
    common: &Common,
    service: &'static str,
    registry: &mut Registry,
) -> anyhow::Result<Option<Traces>> {
    let (format, otlp) = (common.log_format, common.otlp_endpoint.as_deref());
    hutch_telemetry::start_with_traces(format, otlp, service, registry)
        .context("traces cannot be sent: see --otlp-endpoint")
}

/// The only namespace that the caches need; `None` for all namespaces. With authentication a
/// facade needs all of them, because a key may give access to any.
fn watched(controller: Option<&Controller>, facade: Option<&Facade>, home: &str) -> Option<String> {
    match (controller, facade) {
        (Some(controller), _) => controller.watch_namespace.clone(),
        (None, Some(facade)) if !facade.access.insecure_no_auth => None,
        _ => Some(home.to_owned()),
    }
}

impl Process {
    async fn new(
        common: &Common,
        controller: Option<&Controller>,
        facade: Option<&Facade>,
        mut registry: Registry,
    ) -> anyhow::Result<Self> {
        let config = kube::Config::infer().await.context(
            "no cluster to work on: set KUBECONFIG, or run in a pod with a service account",
        )?;
        let client =
            client::connect(&config).context("the cluster's configuration cannot be used")?;
        let namespace = common.namespace.as_ref();
        let namespace = namespace.unwrap_or(&config.default_namespace).clone();
        let target = database_target(&common.database)?;
        Ok(Self {
            pool: Pool::new(client.clone(), pool_settings(facade)),
            database: Database::new(target, &mut registry),
            watched: watched(controller, facade, &namespace),
            buckets: common.buckets.clone(),
            registry: Arc::new(Mutex::new(registry)),
            shutdown: CancellationToken::new(),
            config,
            client,
            namespace,
        })
    }

    /// Starts the loops that close unused channels and connect to the database. They run
    /// until the process exits.
    fn spawn_background(&self) {
        tokio::spawn(self.pool.clone().run());
        let database = self.database.clone();
        tokio::spawn(async move { database.run().await });
    }

    fn facade_caches(
        &self,
        settings: &Facade,
        watches: &mut Watches,
        resources: Resources,
    ) -> FacadeCaches {
        let keys = (!settings.access.insecure_no_auth).then(|| self.operator_namespace());
        FacadeCaches::watch(watches, resources, &self.namespace, keys.as_deref())
    }

    /// Runs the roles, each with its caches, until the shutdown and until they have ended.
    async fn run_roles(
        &self,
        controller: Option<(Controller, Caches)>,
        facade: Option<(Facade, FacadeCaches)>,
    ) -> anyhow::Result<()> {
        let facade = match facade {
            Some((settings, caches)) => Some(self.facade(settings, caches).await?),
            None => None,
        };
        let controllers = controller.map(|(settings, caches)| self.controllers(settings, caches));
        for role in [facade, controllers].into_iter().flatten() {
            role.await.context("a part ended badly")?;
        }
        self.shutdown.cancelled().await;
        Ok(())
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves probes and metrics until `stop`, so until every other part has ended.
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

    /// The namespace of Hutch's own Secrets: API keys and S3 credentials.
    fn operator_namespace(&self) -> String {
        let own = &self.config.default_namespace;
        let named = self.buckets.operator_namespace.as_ref();
        named.unwrap_or(own).clone()
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
