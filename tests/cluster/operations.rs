//! Operation of Hutch: probes, metrics, and waiting for an API server that is away.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::sandbox::manifest;
use crate::support::environment::Environment;
use crate::support::world::{eventually, http};
use crate::support::{Tenant, World};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_closed_label_sets() {
    let world = World::new("metrics").await;
    let (hutch, tenant) = world.with_tenant("some-tenant", &[]).await;
    tenant.create().await.ok();
    tenant.send(Method::PATCH, "/some/path", "").await;
    let bad = manifest("bad-image", json!({"image": "registry.invalid/x:1"}));
    world.apply(&bad).unwrap();
    world
        .condition("bad-image", "Ready", "ImagePullFailed")
        .await;
    let text = hutch.metrics().await;
    assert!(hutch.metric("hutch_reconciles_total").await > 0.0);
    assert!(hutch.metric("hutch_leading").await > 0.0);
    for name in [
        world.namespace.as_str(),
        "some-tenant",
        "bad-image",
        "some/path",
    ] {
        assert!(!text.contains(name), "{name} in:\n{text}");
    }
    let labels = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('{')?.1.split_once('}'))
        .flat_map(|(labels, _)| labels.split(','))
        .filter_map(|label| label.split_once('='));
    for (key, value) in labels {
        let known = [
            "controller",
            "operation",
            "outcome",
            "kind",
            "le",
            "route",
            "method",
            "status",
        ];
        assert!(known.contains(&key), "{key}={value}");
    }
}

/// The address that a kubeconfig's `server` names.
fn address(server: &str) -> SocketAddr {
    let address = server.trim_start_matches("https://").trim_end_matches('/');
    address.parse().expect("a test cluster's address")
}

/// A connection to the API server that can be cut and restored.
pub(super) struct Bridge {
    port: SocketAddr,
    to: SocketAddr,
    open: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Creates a closed bridge, and the kubeconfig that leads through it.
    pub(super) async fn to(world: &World, directory: &TempDir) -> (Self, Environment) {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap();
        let mut server = None;
        let environment = world.environment.edited(directory.path(), |cluster, _| {
            let to = address(cluster["server"].as_str().unwrap());
            cluster["tls-server-name"] = json!(to.ip());
            cluster["server"] = json!(format!("https://{port}"));
            server = Some(to);
        });
        let (to, open) = (server.unwrap(), None);
        (Self { port, to, open }, environment)
    }

    pub(super) async fn open(&mut self) {
        let (listener, to) = (TcpListener::bind(self.port).await.unwrap(), self.to);
        self.open = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        // Either end may close first.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        }));
    }

    /// Ends every connection, and refuses new ones.
    pub(super) async fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            // The task ends by an abort, which is no error here.
            let _ = open.await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hutch_without_an_api_server_waits_and_names_what_it_waits_for() {
    let world = World::new("no-server").await;
    world.environment.require_test_cluster();
    let directory = tempfile::tempdir().unwrap();
    let (mut bridge, environment) = Bridge::to(&world, &directory).await;
    let mut hutch = world.hutch_on(&environment, "run", &[]);
    let probe = async |path: &str| {
        let answer = http().get(format!("{}/{path}", hutch.ops().await));
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let waiting = "waiting for Sandbox, SandboxSession, Pod, PersistentVolumeClaim, Node, RuntimeClass, CSINode, PersistentVolume\n";
    assert_eq!(probe("readyz").await, (503, waiting.to_owned()));
    assert_eq!(probe("healthz").await.0, 200);
    assert!(!hutch.ended());

    bridge.open().await;
    hutch.until_ready().await;
    world.apply(&manifest("box", json!({}))).unwrap();
    world.ready("box").await;
    assert!(hutch.metric("hutch_watch_errors_total").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_cut_off_from_the_api_server_stops_leading_and_recovers() {
    let world = World::new("cut-off").await;
    world.environment.require_test_cluster();
    let directory = tempfile::tempdir().unwrap();
    let (mut bridge, environment) = Bridge::to(&world, &directory).await;
    bridge.open().await;
    let mut hutch = world.hutch_on(&environment, "run", &[]);
    let tenant = Tenant::new(&hutch.url().await, "t");
    tenant.stdout("echo data > file").await;
    let name = hutch_core::names::sandbox("t");
    let pod = world.ready(&name).await.status.unwrap().pod_uid;
    bridge.cut().await;
    world.apply(&manifest("meanwhile", json!({}))).unwrap();
    eventually("it does not lead any more", async || {
        (hutch.metric("hutch_leading").await == 0.0).then_some(())
    })
    .await;
    assert!(!hutch.ended());
    bridge.open().await;
    world.ready("meanwhile").await;
    assert_eq!(tenant.stdout("cat file").await, "data");
    let same = world.ready(&name).await.status.unwrap().pod_uid;
    assert_eq!(same, pod, "what ran goes on");
}
