//! Builds the parts of `hutch-node` from its settings and joins them. At shutdown the CSI
//! driver and the live mounts stop first, then the watches. Mounts stay for the next process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::csi::{Csi, CsiSettings, ServeError};
use crate::live::{Live, LiveSettings};
use crate::settings::NodeSettings;
use crate::{MountSettings, Mounts, Refusals};
use hutch_core::s3::AllowedEndpoints;
use hutch_kube::client;
use hutch_kube::node::NodeCaches;
use hutch_kube::watches::Watches;
use hutch_process::{Ops, cancel_on_signal, listen};

/// Limit of the wait for blocked threads at the end. A probe of a hung mount may block one
/// for ever.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT, or only ends the mounts with `--end-mounts`.
///
/// # Errors
/// When a part cannot start or stops with an error.
pub fn run(settings: NodeSettings) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix("hutch");
    hutch_telemetry::start(settings.log_format, &mut registry);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let ended = runtime.block_on(async {
        if settings.end_mounts {
            end_mounts(settings).await
        } else {
            serve(settings, registry).await
        }
    });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    ended
}

async fn end_mounts(settings: NodeSettings) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let mounts = open(settings.state_dir, None, &mut registry).await?;
    mounts.end_all().await;
    Ok(())
}

async fn open(
    state: PathBuf,
    ca_file: Option<PathBuf>,
    registry: &mut Registry,
) -> anyhow::Result<Mounts> {
    let at = state.display().to_string();
    Mounts::open(MountSettings { state, ca_file }, registry)
        .await
        .with_context(|| format!("the state directory {at} cannot be used: see --state-dir"))
}

async fn serve(settings: NodeSettings, mut registry: Registry) -> anyhow::Result<()> {
    let config = kube::Config::infer()
        .await
        .context("no cluster to work on: set KUBECONFIG, or run in a pod with a service account")?;
    let client = client::connect(&config).context("the cluster's configuration cannot be used")?;
    let node = node_name(settings.node_name)?;
    if let Some(file) = &settings.ca_file {
        let at = file.display();
        std::fs::File::open(file).with_context(|| format!("--ca-file {at} cannot be read"))?;
    }
    let mounts = open(settings.state_dir, settings.ca_file, &mut registry).await?;
    let shutdown = CancellationToken::new();
    let mut watches = Watches::new(client.clone(), &mut registry);
    let caches = NodeCaches::watch(&mut watches, &node, settings.watch_namespace.as_deref());
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    let stop_ops = CancellationToken::new();
    let ops = serve_ops(settings.ops_listen, &watches, registry, stop_ops.clone()).await?;

    let endpoints = AllowedEndpoints::with_http(settings.allow_http_buckets);
    let refusals = Refusals::default();
    let csi = CsiSettings {
        driver: settings.node_driver,
        node: node.clone(),
        kubelet: settings.kubelet_dir,
        endpoints,
    };
    let csi = (!settings.no_csi).then_some(csi);
    let csi = serve_csi(csi, &mounts, &client, &refusals, &shutdown);
    tracing::info!(node, "mounting buckets");
    let live = Live::new(
        client.clone(),
        caches,
        mounts.clone(),
        LiveSettings { endpoints },
        refusals.clone(),
        shutdown.clone(),
    );
    let (served, ()) = tokio::join!(csi, live.run());
    watches.stop().await;
    stop_ops.cancel();
    ops.await
        .context("the listener for probes and metrics failed")?;
    served?;
    tracing::info!("stopped");
    Ok(())
}

/// The configured name of the node, or else the host name of the machine.
fn node_name(configured: Option<String>) -> anyhow::Result<String> {
    if let Some(name) = configured {
        return Ok(name);
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("no name for this node: set --node-name")?;
    Ok(name.trim().to_owned())
}

/// Starts to serve probes and metrics until `stop`.
async fn serve_ops(
    address: SocketAddr,
    watches: &Watches,
    registry: Registry,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let (listings, registry) = (watches.listings(), Mutex::new(registry));
    let ops = Ops {
        waiting_for: Box::new(move || listings.missing()),
        database: None,
        metrics: Box::new(move || hutch_telemetry::metrics(&registry)),
    };
    let listener = listen(address, "--ops-listen").await?;
    tracing::info!("probes and metrics on http://{}", listener.local_addr()?);
    Ok(tokio::spawn(ops.serve(listener, stop)))
}

/// Serves the kubelet until `shutdown`, unless there are no settings for it. Without the
/// driver, the controllers do not see that this node can mount. So its end shuts the process
/// down, which is then started again.
async fn serve_csi(
    settings: Option<CsiSettings>,
    mounts: &Mounts,
    client: &Client,
    refusals: &Refusals,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let Some(settings) = settings else {
        return Ok(());
    };
    let (mounts, client, refusals) = (mounts.clone(), client.clone(), refusals.clone());
    let driver = Csi::new(settings, mounts, client, refusals).await;
    let served = driver.serve(shutdown.clone()).await;
    shutdown.cancel();
    served
}
