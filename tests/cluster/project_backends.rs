//! `/projects/*`: sandboxes that a backend creates, reaches and deletes by name.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::world::eventually;
use crate::support::{Hutch, World};
use hutch_api::{CONTAINER, Sandbox};

/// Another spelling of the only image that the test clusters have. It distinguishes the
/// image from the default.
const OTHER: &str = "docker.io/library/python:3.11-slim";

async fn started(world: &World, more: &[&str]) -> (Hutch, Backend) {
    let images = format!("python=python:3.11-slim,go={OTHER}");
    let mut flags = vec!["--project-image", images.as_str()];
    flags.extend(more);
    world.with_backend("", &flags).await
}

async fn create(backend: &Backend, body: Value) -> Value {
    let made = backend.post("/projects/create", body).await.ok();
    for field in ["container_id", "container_name", "image", "message"] {
        let text = made[field].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{field}: {made:#}");
    }
    assert_eq!(made["workdir"], "/workspace");
    made
}

fn text(made: &Value, field: &str) -> String {
    made[field].as_str().unwrap().to_owned()
}

/// The port of the sandbox's Service that leads to this port of the sandbox.
fn port_to(service: &Service, target: i32) -> Option<&k8s_openapi::api::core::v1::ServicePort> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|port| port.port == target)
}

/// The one Service that selects this pod.
async fn service_of(world: &World, pod: &Pod) -> Service {
    let all = world.api::<Service>().list(&ListParams::default()).await;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let selects = |service: &Service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        let selector = selector.unwrap_or_default();
        let mut pairs = selector.iter();
        !selector.is_empty() && pairs.all(|(key, value)| labels.get(key) == Some(value))
    };
    let mut found: Vec<_> = all.unwrap().items.into_iter().filter(selects).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_gets_a_running_sandbox_of_its_language_with_two_ports() {
    let world = World::new("create").await;
    let (_hutch, backend) = started(&world, &[]).await;
    for (language, image) in [
        (json!(null), "python:3.11-slim"),
        (json!(""), "python:3.11-slim"),
        (json!("python"), "python:3.11-slim"),
        (json!("go"), OTHER),
    ] {
        let body = json!({"project_name": "My Shop", "backend_language": language});
        let made = create(&backend, body).await;
        assert_eq!(made["image"], image, "{language}");
        let pod = world.pods().get(&text(&made, "container_name")).await;
        let pod = pod.unwrap();
        let containers = &pod.spec.as_ref().unwrap().containers;
        let container = containers.iter().find(|it| it.name == CONTAINER).unwrap();
        assert_eq!(container.image.as_deref(), Some(image), "{language}");
        let mounts = container.volume_mounts.iter().flatten();
        assert_eq!(mounts.filter(|it| it.mount_path == "/workspace").count(), 1);

        let service = service_of(&world, &pod).await;
        for (field, target) in [("frontend_port", 5173), ("backend_port", 8888)] {
            let port = port_to(&service, target).unwrap();
            let reported = &made[field];
            // Without a language there is no backend that could have a port.
            if field == "frontend_port" || image == OTHER {
                let reached = port.node_port.unwrap_or(port.port);
                assert_eq!(*reported, reached, "{field}: {made:#} {service:#?}");
            }
        }
    }
    assert_eq!(world.live_pods().await.len(), 4, "a name may be used again");
    // Hutch creates no database, and a request for one is not an error.
    let body = json!({"project_name": "$(id)'\"\n/..", "need_database": true});
    create(&backend, body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_can_be_those_of_the_service_inside_the_cluster() {
    let world = World::new("inside").await;
    let (_hutch, backend) = started(&world, &["--project-ports", "cluster"]).await;
    let made = create(&backend, json!({"project_name": "p"})).await;
    assert_eq!(made["frontend_port"], 5173);
    let pod = world.pods().get(&text(&made, "container_name")).await;
    let service = service_of(&world, &pod.unwrap()).await;
    let kind = service.spec.as_ref().unwrap().type_.as_deref();
    assert_eq!(kind, Some("ClusterIP"), "{service:#?}");
    assert_eq!(port_to(&service, 5173).unwrap().node_port, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_that_is_not_in_the_map_is_refused_by_name() {
    let world = World::new("no-language").await;
    let (_hutch, backend) = started(&world, &[]).await;
    for language in ["cobol", "java", "python:3", "$(id)"] {
        let body = json!({"project_name": "p", "backend_language": language});
        let error = backend.post("/projects/create", body).await.fails(400);
        assert!(error.contains(language), "{error}");
        assert!(error.contains("python") && error.contains("go"), "{error}");
    }
    assert_eq!(world.count().await, 0);
}

/// The address at which this process reaches the ports of nodes.
async fn node_address(world: &World) -> String {
    let nodes = Api::<Node>::all(world.client.clone());
    let node = nodes
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0);
    let addresses = node.status.unwrap().addresses.unwrap();
    let internal = addresses.into_iter().find(|it| it.type_ == "InternalIP");
    internal.unwrap().address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_the_sandbox_is_reached_at_the_returned_ports() {
    let world = World::new("reached").await;
    let (_hutch, backend) = started(&world, &[]).await;
    let body = json!({"project_name": "p", "backend_language": "python"});
    let made = create(&backend, body).await;
    let name = text(&made, "container_name");
    let node = node_address(&world).await;
    for (field, port) in [("frontend_port", "5173"), ("backend_port", "8888")] {
        let code = format!(
            "mkdir -p /tmp/{port} && cd /tmp/{port} && echo on {port} > mark && \
             (nohup python3 -m http.server {port} >/dev/null 2>&1 </dev/null &)"
        );
        let arguments = ["exec", &name, "-c", CONTAINER, "--", "sh", "-c", &code];
        world.kubectl(&arguments, "").unwrap();
        let url = format!("http://{node}:{}/mark", made[field]);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2));
        let http = http.build().unwrap();
        let what = format!("{url} answers");
        let output = eventually(&what, async || {
            http.get(&url).send().await.ok()?.text().await.ok()
        })
        .await;
        assert_eq!(output, format!("on {port}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_deleted_by_id_or_name_and_deleting_it_again_is_no_error() {
    let world = World::new("delete").await;
    let (_hutch, backend) = started(&world, &[]).await;
    for field in ["container_id", "container_name"] {
        let made = create(&backend, json!({"project_name": "p"})).await;
        let kept = create(&backend, json!({"project_name": "p"})).await;
        let (name, container) = (text(&made, "container_name"), text(&made, field));
        for _ in 0..2 {
            let body = json!({"container_id": container});
            let body = backend.post("/projects/delete", body).await.ok();
            assert!(!text(&body, "message").is_empty());
            assert!(world.sandboxes().get_opt(&name).await.unwrap().is_none());
            world.gone::<Pod>(&name).await;
            world.gone::<Service>(&name).await;
        }
        let kept = text(&kept, "container_name");
        world.sandboxes().get(&kept).await.unwrap();
        world.pods().get(&kept).await.unwrap();
    }
    for nobody in [
        "nothing",
        "../sandboxes/x",
        "$(id)",
        "-A",
        "用户",
        &"x".repeat(500),
    ] {
        let body = json!({"container_id": nobody});
        backend.post("/projects/delete", body).await.ok();
    }
    assert_eq!(world.count().await, 2);
}

fn domain(container: &str, subdomain: &str, port: u16, domain: &str) -> Value {
    json!({
        "container_id": container,
        "subdomain": subdomain,
        "frontend_port": port,
        "domain": domain,
    })
}

/// The host, Service and port of an Ingress that has one of each.
fn route(ingress: &Ingress) -> Option<(String, String, i32)> {
    let rules = ingress.spec.as_ref()?.rules.as_ref()?;
    let [rule] = rules.as_slice() else {
        return None;
    };
    let [path] = rule.http.as_ref()?.paths.as_slice() else {
        return None;
    };
    let service = path.backend.service.as_ref()?;
    let port = service.port.as_ref()?.number?;
    Some((rule.host.clone()?, service.name.clone(), port))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_leads_to_a_port_of_the_sandbox_and_is_deleted_with_it() {
    let world = World::new("domain").await;
    let settings = [
        "--ingress-class",
        "nginx",
        "--ingress-tls-secret",
        "wildcard",
    ];
    let (_hutch, backend) = started(&world, &settings).await;
    let made = create(&backend, json!({"project_name": "p"})).await;
    let name = text(&made, "container_name");
    let pod = world.pods().get(&name).await.unwrap();
    for (container, subdomain, port) in [
        (text(&made, "container_id"), "shop", 5173),
        (name.clone(), "shop-2", 8888),
        (name.clone(), "shop-2", 3000),
    ] {
        let body = domain(&container, subdomain, port, "example.org");
        let body = backend.post("/projects/configure-domain", body).await.ok();
        let host = format!("{subdomain}.example.org");
        assert_eq!(body["subdomain"], host);
        assert!(!text(&body, "message").is_empty());
        let service = service_of(&world, &pod).await;
        let wanted = (
            host,
            service.metadata.name.clone().unwrap(),
            i32::from(port),
        );
        let all = world.api::<Ingress>().list(&ListParams::default()).await;
        let all = all.unwrap().items;
        assert!(
            all.iter().any(|it| route(it).as_ref() == Some(&wanted)),
            "{all:#?}"
        );
        for ingress in &all {
            let spec = ingress.spec.as_ref().unwrap();
            assert_eq!(spec.ingress_class_name.as_deref(), Some("nginx"));
            let secrets = spec
                .tls
                .iter()
                .flatten()
                .map(|tls| tls.secret_name.as_deref());
            assert_eq!(secrets.collect::<Vec<_>>(), [Some("wildcard")]);
        }
        for port in [5173, 8888, i32::from(port)] {
            assert!(port_to(&service, port).is_some(), "{port}: {service:#?}");
        }
        let port = port_to(&service, 5173).unwrap();
        let reached = port.node_port.unwrap_or(port.port);
        assert_eq!(
            made["frontend_port"], reached,
            "a port that was returned stays"
        );
    }
    let body = json!({"container_id": name});
    backend.post("/projects/delete", body).await.ok();
    world.gone::<Sandbox>(&name).await;
    eventually("its Ingress is gone", async || {
        let all = world.api::<Ingress>().list(&ListParams::default()).await;
        all.unwrap().items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_host_or_one_that_is_not_served_is_refused() {
    let world = World::new("hosts").await;
    let (_hutch, backend) = started(&world, &["--domain", "example.org"]).await;
    let made = create(&backend, json!({"project_name": "p"})).await;
    let name = text(&made, "container_name");
    let long = "x".repeat(64);
    let hosts = [
        "a b", "-a", "a-", "a..b", ".a", "*", "a/b", "a\nb", "a:1", "ü", "$(id)", "'", "a_b", &long,
    ];
    let mut wrong: Vec<_> = hosts.map(|host| (host, "example.org")).to_vec();
    for other in [
        "example.com",
        "org",
        "evil.example.org.",
        "example.org/x",
        "a b",
        "*",
    ] {
        wrong.push(("shop", other));
    }
    for (subdomain, base) in wrong {
        let body = domain(&name, subdomain, 5173, base);
        let reply = backend.post("/projects/configure-domain", body).await;
        assert_eq!(reply.status, 400, "{subdomain:?} {base:?}: {reply:#?}");
        reply.fails(400);
    }
    for nobody in ["nothing", "../x", "$(id)"] {
        let body = domain(nobody, "shop", 5173, "example.org");
        let error = backend
            .post("/projects/configure-domain", body)
            .await
            .fails(400);
        assert!(error.contains(nobody), "{error}");
    }
    let all = world.api::<Ingress>().list(&ListParams::default()).await;
    assert!(all.unwrap().items.is_empty());
    let body = domain(&name, "shop", 5173, "example.org");
    backend.post("/projects/configure-domain", body).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_leads_to_one_sandbox_and_is_free_again_after_it() {
    let world = World::new("one-host").await;
    let (_hutch, backend) = started(&world, &[]).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let made = create(&backend, json!({"project_name": "p"})).await;
        names.push(text(&made, "container_name"));
    }
    let lead = async |name: &str, subdomain: &str| {
        let body = domain(name, subdomain, 5173, "example.org");
        backend.post("/projects/configure-domain", body).await
    };
    // If both ask at the same time, one of them gets it.
    let both = tokio::join!(lead(&names[0], "shop"), lead(&names[1], "Shop"));
    let (first, second, refused) = match both.0.status {
        200 => (&names[0], &names[1], both.1),
        _ => (&names[1], &names[0], both.0),
    };
    let output = refused.fails(400);
    assert!(
        output.contains("shop.example.org") && output.contains(first),
        "{output}"
    );
    let routes = async || {
        let all = world.api::<Ingress>().list(&ListParams::default()).await;
        let routes: Vec<_> = all.unwrap().items.iter().filter_map(route).collect();
        routes
            .into_iter()
            .map(|(host, to, _)| (host, to))
            .collect::<Vec<_>>()
    };
    let host = "shop.example.org".to_owned();
    assert_eq!(routes().await, [(host.clone(), first.clone())]);
    lead(first, "shop").await.ok();

    // Objects of other owners stay as they are.
    let theirs = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "theirs"}, "spec": {"rules": [{"host": "their.example.org"}]}});
    world.apply(&theirs.to_string()).unwrap();
    lead(second, "their").await.fails(400);

    backend
        .post("/projects/delete", json!({"container_id": first}))
        .await
        .ok();
    eventually("the host is free", async || {
        (lead(second, "shop").await.status == 200).then_some(())
    })
    .await;
    assert!(routes().await.contains(&(host, second.clone())));
}
