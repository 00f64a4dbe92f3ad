//! What those who run Hutch go by: probes, metrics, and that it waits for an API
//! server that is not there.

use std::net::SocketAddr;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::sandbox::manifest;
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_closed_label_sets() {
    let world = World::new("metrics").await;
    let (hutch, tenant) = world.with_tenant("some-tenant", &[]).await;
    tenant.create().await.ok();
    let bad = manifest("bad-image", json!({"image": "registry.invalid/x:1"}));
    world.apply(&bad).unwrap();
    world
        .condition("bad-image", "Ready", "ImagePullFailed")
        .await;
    let url = format!("{}/metrics", hutch.ops().await);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(hutch.metric("hutch_reconciles_total").await > 0.0);
    assert!(hutch.metric("hutch_leading").await > 0.0);
    for name in [world.namespace.as_str(), "some-tenant", "bad-image"] {
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
            "outcome",
            "kind",
            "le",
            "route",
            "method",
            "status",
        ]
        .contains(&key);
        assert!(known, "{key}={value}");
    }
}

/// The address that a kubeconfig's `server` names.
fn address(server: &str) -> SocketAddr {
    let address = server.trim_start_matches("https://").trim_end_matches('/');
    address.parse().expect("a test cluster's address")
}

async fn forward(listener: TcpListener, to: SocketAddr) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                // Either end may go first.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hutch_without_an_api_server_waits_for_it_and_says_for_what() {
    let world = World::new("no-server").await;
    if world.environment.cluster.is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap();
    drop(free);
    let mut server = None;
    let environment = world.environment.edited(folder.path(), |cluster, _| {
        let to = address(cluster["server"].as_str().unwrap());
        cluster["tls-server-name"] = json!(to.ip());
        cluster["server"] = json!(format!("https://{port}"));
        server = Some(to);
    });
    let mut hutch = world.hutch_on(&environment, "run", &[]);
    let probe = async |path: &str| {
        let answer = reqwest::get(format!("{}/{path}", hutch.ops().await)).await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let waiting =
        "waiting for Sandbox, SandboxSession, Pod, PersistentVolumeClaim, Node, RuntimeClass\n";
    assert_eq!(probe("readyz").await, (503, waiting.to_owned()));
    assert_eq!(probe("healthz").await.0, 200);
    let errors = hutch.metric("hutch_watch_errors_total").await;
    assert!(!hutch.ended());

    let listener = TcpListener::bind(port).await.unwrap();
    let proxy = tokio::spawn(forward(listener, server.unwrap()));
    hutch.until_ready().await;
    world.apply(&manifest("box", json!({}))).unwrap();
    world.ready("box").await;
    assert!(errors >= 0.0 && hutch.metric("hutch_watch_errors_total").await > 0.0);
    proxy.abort();
}
