//! A Hutch that has just started finds existing sandboxes, and a replica finds those that
//! another one has just created.

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use serde_json::json;

use crate::project_attach::{BUSYBOX, create, name, runs, theirs};
use crate::project_resolution::{conversation, until};
use crate::support::backend::Backend;
use crate::support::postgres::Postgres;
use crate::support::world::eventually;
use crate::support::{Tenant, World};
use hutch_api::SandboxSpec;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_to_a_new_process_finds_the_existing_sandboxes() {
    let (world, postgres) = (World::new("first").await, Postgres::start().await);
    for (project, pod) in [("P", "applied"), ("Q", "guest")] {
        postgres.project(project).await;
        name(&postgres, project, pod).await;
    }
    create(&world, theirs("guest", BUSYBOX, json!({}))).await;
    runs(&world, "guest").await;
    let spec = json!({"workspace": {"persistence": "Ephemeral", "size": "64Mi"}});
    let spec: SandboxSpec = serde_json::from_value(spec).unwrap();
    world.create("applied", spec).await;
    let flags = postgres.flags(postgres.port);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let agent = format!(
        "--agent-binary={}",
        crate::support::environment::agent_binary().display()
    );
    let mut flags = flags;
    flags.push(&agent);
    let (_first, backend) = world.with_backend("own", &flags).await;
    until(&backend, "connected").await;
    backend.stdout("true").await;
    world.ready("applied").await;
    for (session, pod) in [("s-P", "applied"), ("s-Q", "guest")] {
        let hutch = world.hutch_on(world.environment, "facade", &flags);
        // It listens. Its caches may still be empty.
        let backend = Backend::new(&hutch.url().await, session);
        let (output, sessions) = tokio::join!(backend.stdout("hostname"), backend.sessions());
        assert_eq!(output, format!("{pod}\n"));
        assert_eq!(sessions, ["own"]);
    }
    assert_eq!(world.count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_deletes_at_once_a_sandbox_that_the_other_created() {
    let world = World::new("replicas").await;
    let (_first, one) = world.with_backend("a", &[]).await;
    let (_second, two) = world.with_backend("a", &[]).await;
    for field in ["container_id", "container_name"] {
        let made = one.post("/projects/create", json!({"project_name": "p"}));
        let made = made.await.ok();
        let body = json!({"container_id": made[field]});
        two.post("/projects/delete", body).await.ok();
        assert_eq!(world.count().await, 0, "{field}");
    }
    one.stdout("true").await;
    assert_eq!(two.end().await, "Session a removed");
    assert_eq!(world.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_project_api_does_not_delete_a_tenants_sandbox() {
    let (world, postgres) = (World::new("tenants").await, Postgres::start().await);
    postgres.project("P").await;
    let flags = postgres.flags(postgres.port);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let (hutch, backend) = world.with_backend("s-P", &flags).await;
    until(&backend, "connected").await;
    let tenant = Tenant::new(&hutch.url().await, "tenant");
    tenant.post("/exec", json!({"command": "true"})).await.ok();
    backend.about("own").stdout("true").await;
    for sandbox in world.sandboxes().list(&Default::default()).await.unwrap() {
        for id in [sandbox.metadata.name, sandbox.metadata.uid] {
            let body = json!({"container_id": id});
            let reported = backend.post("/projects/delete", body).await.ok();
            let message = reported["message"].as_str().unwrap();
            assert!(message.ends_with("stays"), "{message}");
            let body = json!({"container_id": id, "subdomain": "s", "frontend_port": 80, "domain": "d.org"});
            let reply = backend.post("/projects/configure-domain", body).await;
            reply.fails(400);
        }
    }
    assert_eq!(world.count().await, 2);
    // The sandbox of a project is deleted.
    let pod = backend.stdout("hostname").await;
    let body = json!({"container_id": pod.trim()});
    backend.post("/projects/delete", body).await.ok();
    assert_eq!(world.count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_whose_name_reached_no_client_is_not_left_behind() {
    let world = World::new("untold").await;
    let image = "go=registry.invalid/x:1";
    let (_hutch, backend) = world.with_backend("", &["--project-image", image]).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/services": "0"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
    let quotas = world.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    eventually("the quota counts", async || {
        quotas.get("q").await.unwrap().status?.hard
    })
    .await;
    let nothing = async || {
        eventually("nothing is left", async || {
            (world.count().await == 0).then_some(())
        })
        .await;
    };
    // It runs, and cannot be reached.
    let reply = backend.post("/projects/create", json!({"project_name": "p"}));
    let reply = reply.await;
    assert_ne!(reply.status, 200, "{reply:#?}");
    nothing().await;
    // Its image cannot be pulled, and the client has gone.
    let body = json!({"project_name": "p", "backend_language": "go"});
    let asked = backend.post("/projects/create", body);
    let begun = eventually("it is begun", async || {
        (world.count().await == 1).then_some(())
    });
    tokio::select! {
        reply = asked => panic!("{reply:#?}"),
        () = begun => {}
    }
    nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_image_of_a_project() {
    let (world, postgres) = (World::new("log").await, Postgres::start().await);
    postgres.project("P").await;
    conversation(&postgres, "other", Some("P")).await;
    let flags = postgres.flags(postgres.port);
    let mut flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let image = "docker.io/library/python:3.11-slim";
    flags.extend(["--default-image", image]);
    let (hutch, backend) = world.with_backend("s-P", &flags).await;
    until(&backend, "connected").await;
    let pod = backend.stdout("hostname").await;
    backend.about("other").stdout("true").await;
    let line = |text: &str| {
        let log = hutch.log();
        let mut lines = log.lines().filter(|line| line.contains(text));
        let line = lines.next().unwrap_or_else(|| panic!("{text}:\n{log}"));
        assert_eq!(lines.next(), None, "{text}");
        line.to_owned()
    };
    let made = line("made a container");
    let attached = line("attached to an existing container");
    for part in ["P", pod.trim(), image] {
        assert!(made.contains(part), "{part}: {made}");
    }
    for part in ["other", "P", pod.trim(), "/sandbox"] {
        assert!(attached.contains(part), "{part}: {attached}");
    }
}
