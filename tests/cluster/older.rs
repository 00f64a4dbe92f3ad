//! Clusters without image volumes, or where they are not used: an init container delivers
//! the agent. Without user namespaces no sandbox has root.

use kube::ResourceExt;
use serde_json::json;

use crate::sandbox::manifest;
use crate::support::{Tenant, World, environment};
use hutch_api::{Phase, SecurityProfile};
use hutch_core::names;

async fn older(test: &str) -> World {
    let environment = tokio::task::spawn_blocking(environment::older);
    World::on(environment.await.unwrap(), test).await
}

async fn works(tenant: &Tenant) {
    assert_eq!(
        tenant.stdout("echo x > f; cat f; pwd").await,
        "x\n/workspace"
    );
    let read_only = tenant.run("touch /.hutch/bin/x").await;
    assert_ne!(read_only["exitCode"], 0, "{read_only}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_container_can_deliver_the_agent() {
    let world = World::new("init").await;
    let (_hutch, tenant) = world.with_tenant("i", &["--agent-delivery", "init"]).await;
    works(&tenant).await;
    let sandbox = world.ready(&names::sandbox("i")).await;
    let status = sandbox.status.as_ref().unwrap();
    assert_eq!(status.security_profile, Some(SecurityProfile::Root));
    let pod = world.pods().get(&sandbox.name_any()).await.unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(spec.init_containers.unwrap().len(), 1);
    assert!(spec.volumes.unwrap().iter().all(|v| v.image.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_cluster_runs_restricted_sandboxes_by_itself() {
    let world = older("older").await;
    let (_hutch, tenant) = world.with_tenant("o", &[]).await;
    works(&tenant).await;
    let sandbox = world.ready(&names::sandbox("o")).await;
    assert_eq!(tenant.stdout("id -u").await, "1000");
    let status = sandbox.status.as_ref().unwrap();
    assert_eq!(status.security_profile, Some(SecurityProfile::Restricted));
    let pod = world.pods().get(&sandbox.name_any()).await.unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(spec.host_users, None);
    assert_eq!(spec.init_containers.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_cluster_refuses_root_and_says_what_to_do() {
    let world = older("no-root").await;
    let _hutch = world.hutch("controller", &[]).await;
    let root = json!({"securityProfile": "Root"});
    world.apply(&manifest("root", root)).unwrap();
    let ready = world
        .condition("root", "Ready", "UserNamespacesUnsupported")
        .await;
    for word in ["user namespaces", "Restricted", "upgrade"] {
        assert!(ready.message.contains(word), "{}", ready.message);
    }
    let sandbox = world.sandbox("root", |_| true).await;
    assert_eq!(sandbox.status.unwrap().phase, Phase::Failed);
    assert!(world.pods().get_opt("root").await.unwrap().is_none());
    // The advice of the message works.
    let advice = json!({"spec": {"securityProfile": "Restricted", "suspended": false}});
    world.patch("root", advice).await;
    world
        .sandbox("root", |s| s.status.as_ref().unwrap().pod_name.is_some())
        .await;
}
