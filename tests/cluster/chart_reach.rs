//! TLS of an installed Hutch with the certificate of a Secret, and a watch of the whole
//! cluster with rights for its tenants only.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::sandbox::manifest;
use crate::support::access::with_user;
use crate::support::chart::{Release, TAGS};
use crate::support::world::eventually;
use crate::support::{Tenant, World};
use crate::tls::{ask_at, renew};
use hutch_api::Sandbox;

/// Name of the Secret with the certificate.
const SECRET: &str = "facade-tls";

/// Writes the files of that directory to the Secret.
fn put(home: &World, directory: &Path) {
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": read("tls.crt"), "tls.key": read("tls.key")}});
    home.apply(&secret.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_uses_the_current_certificate_of_its_secret() {
    let world = World::new("chart-tls").await;
    let directory = tempfile::tempdir().unwrap();
    let first = renew(directory.path(), "first");
    let home = World::new("chart").await;
    put(&home, directory.path());
    let tenant = world.namespace.clone();
    let release = Release { home, tenant };
    let facade = json!({"replicas": 1, "tls": {"secret": SECRET}});
    let output = release.apply("install", TAGS[0], &json!({"facade": facade}), &[]);
    assert!(
        output.contains("curl -k https://localhost:8787/exec"),
        "{output}"
    );

    let key = release.key("acme", &[]);
    let address = release.url().await;
    let address = address.trim_start_matches("http://");
    let address = address.trim_end_matches(":8787");
    let url = with_user("https://localhost:8787", &format!("acme:{key}"));
    eventually("the key is known", async || {
        (ask_at(address, &url, &first) == Some(200)).then_some(())
    })
    .await;
    release.helm(&["test", release.name()], "").unwrap();

    let second = renew(directory.path(), "second");
    put(&release.home, directory.path());
    // The kubelet updates a mounted Secret once a minute, and at once when its pod changes.
    let facade = "app.kubernetes.io/component=facade";
    let touch = ["annotate", "pods", "--selector", facade, "renewed=true"];
    release.home.kubectl(&touch, "").unwrap();
    eventually("the new certificate is used", async || {
        (ask_at(address, &url, &second) == Some(200)).then_some(())
    })
    .await;
    assert_eq!(ask_at(address, &url, &first), None);
    let pods = Api::<Pod>::namespaced(release.home.client.clone(), release.name());
    let facades = pods.list(&ListParams::default().labels(facade)).await;
    let restarts = facades
        .unwrap()
        .items
        .iter()
        .map(super::chart::restarts)
        .sum::<i32>();
    assert_eq!(restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hutch_that_watches_the_whole_cluster_serves_its_tenants_only() {
    let acme = World::new("reach-acme").await;
    let lab = World::new("reach-lab").await;
    let elsewhere = World::new("reach-none").await;
    let tenant =
        |world: &World| json!({"namespace": world.namespace, "size": "lite", "sandboxes": 5});
    // The default is the whole cluster.
    let values = json!({"watchNamespace": "", "tenants": [tenant(&acme), tenant(&lab)]});
    let release = Release::install(&acme, values).await;
    let mut clients = Vec::new();
    for world in [&acme, &lab, &elsewhere] {
        let key = release.key_to(&world.namespace, &world.namespace, &[]);
        clients.push(Tenant::new(&release.url_of(&key).await, "same"));
    }

    elsewhere.apply(&manifest("nobodys", json!({}))).unwrap();
    for (client, whose) in clients.iter().zip(["acme", "lab"]) {
        client.stdout(&format!("echo {whose} > file")).await;
    }
    for (client, whose) in clients.iter().zip(["acme", "lab"]) {
        assert_eq!(client.stdout("cat file").await, whose);
    }
    lab.apply(&manifest("applied", json!({}))).unwrap();
    lab.ready("applied").await;

    // The watch has delivered this sandbox before the others, and Hutch has not changed it.
    let nobodys = elsewhere.sandboxes().get("nobodys").await.unwrap();
    assert_eq!(nobodys.status, None);
    let answer = clients[2].create().await;
    let output = answer.body["message"].as_str().unwrap_or_default();
    assert!(
        output.contains("the cluster does not allow it"),
        "{:#}",
        answer.body
    );
    let all = ListParams::default();
    assert!(elsewhere.pods().list(&all).await.unwrap().items.is_empty());
    let sandboxes = elsewhere.api::<Sandbox>().list(&all).await.unwrap().items;
    assert_eq!(sandboxes.len(), 1);
}
