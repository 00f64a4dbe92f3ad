//! The role of `hutch node`: builds its parts and joins them. When it is asked to
//! end, the doors close first, then the watches; mounts stay, for the next process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{listen, until_signalled};
use crate::cluster::client;
use crate::cluster::node::NodeCaches;
use crate::cluster::watches::Watches;
use crate::http::{self, ops::Ops};
use crate::node::csi::{self, Csi};
use crate::node::live::{Live, LiveSettings};
use crate::node::{Mounts, Settings};
use crate::settings::Node;
use crate::telemetry;

/// A probe of a hung mount may block a thread for longer than anybody waits.
const LINGER: Duration = Duration::from_millis(500);

/// Runs until a signal ends it.
pub fn main(settings: Node) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix("hutch");
    telemetry::start(settings.log_format, None, "hutch-node", &mut registry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let ended = runtime.block_on(serve(settings, registry));
    runtime.shutdown_timeout(LINGER);
    ended
}

async fn serve(settings: Node, mut registry: Registry) -> anyhow::Result<()> {
    let config = client::infer()
        .await
        .context("no cluster to work on: set KUBECONFIG, or run in a pod with a service account")?;
    let client = client::connect(&config).context("the cluster's configuration cannot be used")?;
    let node = match settings.node_name {
        Some(name) => name,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("no name for this node: set --node-name")?
            .trim()
            .to_owned(),
    };
    let state = settings.state_dir;
    let at = state.display().to_string();
    let mounts = Mounts::open(Settings { state }, &mut registry)
        .await
        .with_context(|| format!("the state folder {at} cannot be used: see --state-dir"))?;
    let shutdown = CancellationToken::new();
    let mut watches = Watches::new(client.clone(), &mut registry);
    let caches = NodeCaches::watch(&mut watches, &node, settings.watch_namespace.as_deref());
    tokio::spawn(until_signalled(shutdown.clone()));

    let stop_ops = CancellationToken::new();
    let (listings, registry) = (watches.listings(), Mutex::new(registry));
    let ops = Ops {
        waiting_for: Box::new(move || listings.missing()),
        database: None,
        metrics: Box::new(move || telemetry::metrics(&registry)),
    };
    let listener = listen(settings.ops_listen, "--ops-listen").await?;
    tracing::info!("probes and metrics on http://{}", listener.local_addr()?);
    let router = http::ops::router(Arc::new(ops));
    let ops = tokio::spawn(http::server::serve(
        listener,
        router,
        None,
        stop_ops.clone(),
    ));

    let live = LiveSettings {
        allow_http: settings.buckets.allow_http_buckets,
    };
    let csi = csi::Settings {
        driver: settings.buckets.node_driver,
        node: node.clone(),
        kubelet: settings.kubelet_dir,
        allow_http: settings.buckets.allow_http_buckets,
    };
    let csi = async {
        if settings.no_csi {
            return Ok(());
        }
        let door = Csi::new(csi, mounts.clone(), client.clone()).await;
        let served = door.serve(shutdown.clone()).await;
        // Without it nobody knows of this node: it ends, to be started again.
        shutdown.cancel();
        served
    };
    tracing::info!(node, "mounting buckets");
    let live = Live::new(
        client.clone(),
        caches,
        mounts.clone(),
        live,
        shutdown.clone(),
    );
    let (served, ()) = tokio::join!(csi, live.run());
    watches.stop().await;
    stop_ops.cancel();
    ops.await.context("the ops listener ended badly")?;
    served?;
    tracing::info!("stopped");
    Ok(())
}
