//! The shipped images, as `make image` builds them, run on the node.

use std::net::{TcpListener, UdpSocket};

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::support::World;
use crate::support::chart::{import, programs};
use crate::support::world::WAIT_TIMEOUT;

/// The security context that a "restricted" namespace requires. The user, which is not
/// root, comes from the image.
fn restricted() -> serde_json::Value {
    json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}})
}

impl World {
    /// Runs a container of that image to its end, and returns its log.
    async fn ran(&self, name: &str, container: serde_json::Value) -> String {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "containers": [container]}});
        self.apply(&pod.to_string()).unwrap();
        let phase = |pod: &Pod| pod.status.clone().and_then(|status| status.phase);
        let ended = |pod: &Pod| matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
        let pod = self.object(name, ended).await;
        let log = self.kubectl(&["logs", name], "").unwrap();
        assert_eq!(phase(&pod).as_deref(), Some("Succeeded"), "{log}");
        log
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_image_runs_without_root_and_contains_the_agent() {
    let world = World::new("image").await;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    world
        .kubectl(&["label", "namespace", &world.namespace, enforce], "")
        .unwrap();
    let image = "hutch.dev/hutch:image";
    import(world.environment, |archive| {
        programs().operator(image, archive)
    });
    let version = json!({"name": "c", "image": image, "args": ["--version"],
        "securityContext": restricted()});
    let output = world.ran("version", version).await;
    assert_eq!(output, format!("hutch {}\n", env!("CARGO_PKG_VERSION")));
    let agent = json!({"name": "c", "image": image, "command": ["/hutch-agent", "--version"],
        "securityContext": restricted()});
    assert!(world.ran("agent", agent).await.starts_with("hutch-agent "));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_image_has_its_mounter() {
    let world = World::new("node-image").await;
    let image = "hutch.dev/hutch-node:image";
    import(world.environment, |archive| programs().node(image, archive));
    let script = "s3fs --version && fusermount --version && /hutch-node --help";
    let container = json!({"name": "c", "image": image, "command": ["sh", "-c", script]});
    let output = world.ran("mounter", container).await;
    assert!(
        output.contains("Amazon Simple Storage Service File System V1.9"),
        "{output}"
    );
    assert!(output.contains("--kubelet-dir"), "{output}");
}

/// Answers every query for an IPv4 address with this one, and all others with no record
/// (RFC 1035, 4.1).
fn serve_names(socket: &UdpSocket, address: std::net::Ipv4Addr) {
    let mut question = [0; 512];
    while let Ok((_, asker)) = socket.recv_from(&mut question) {
        let mut end = 12;
        while question[end] != 0 {
            end += usize::from(question[end]) + 1;
        }
        end += 5;
        let known = question[end - 3] == 1;
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(known), 0, 0, 0, 0]);
        answer.extend(&question[12..end]);
        if known {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
        }
        let _ = socket.send_to(&answer, asker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_hutch_in_an_empty_image_finds_services_by_name() {
    let world = World::new("names").await;
    let image = "hutch.dev/hutch:image";
    import(world.environment, |archive| {
        programs().operator(image, archive)
    });
    let address = world.environment.require_test_cluster().host_address();
    let names = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || serve_names(&names, address));
    let database = TcpListener::bind((address, 0)).unwrap();
    let port = database.local_addr().unwrap().port().to_string();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hutch"}, "spec": {
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": [address], "searches": ["svc.cluster.local"]},
        "containers": [{"name": "c", "image": image, "args": ["facade", "--insecure-no-auth"],
            "env": [{"name": "POSTGRES_HOST", "value": "database"},
                {"name": "POSTGRES_PORT", "value": port}]}],
    }});
    world.apply(&pod.to_string()).unwrap();
    // Hutch connects to its database as soon as it runs, again and again.
    let wait = tokio::task::spawn_blocking(move || database.accept());
    tokio::time::timeout(WAIT_TIMEOUT, wait)
        .await
        .expect("the database is looked for by its name")
        .unwrap()
        .unwrap();
}
