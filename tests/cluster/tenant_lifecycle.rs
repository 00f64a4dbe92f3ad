//! `/lifecycle` of the tenant contract: ids, limits, and the cost of a sandbox.

use std::collections::HashSet;

use futures::future::join_all;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{Tenant, World, audit};

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_look_alike_are_distinct_sandboxes() {
    let world = World::new("ids").await;
    let (_hutch, tenant) = world.with_tenant("", &[]).await;
    let long = "x".repeat(300);
    let ids = ["A", "a", "a.b", "用户/1", "-x", &long];
    let mut made = HashSet::new();
    for id in ids {
        let tenant = tenant.about(id);
        let data = tenant.create().await.ok();
        assert_eq!(data["sandboxId"], id);
        tenant.run(&format!("printf %s '{id}' > mark")).await;
        let sandbox = world.sandbox_of(id).await;
        assert_eq!(sandbox.annotations()["hutch.dev/sandbox-id"], id);
        made.insert(sandbox.name_any());
    }
    assert_eq!(made.len(), ids.len());
    for id in ids {
        assert_eq!(tenant.about(id).stdout("cat mark").await, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_creates_of_one_id_make_one_sandbox_and_one_pod() {
    let world = World::new("fifty").await;
    let (_hutch, tenant) = world.with_tenant("one", &[]).await;
    let answers = join_all((0..50).map(|_| tenant.create())).await;
    for answer in answers {
        let data = answer.ok();
        assert_eq!(data["created"], true);
        assert_eq!(data["initialized"], true);
        assert_eq!(data["init"]["stdout"], "ready");
    }
    let all = ListParams::default();
    assert_eq!(world.sandboxes().list(&all).await.unwrap().items.len(), 1);
    assert_eq!(world.pods().list(&all).await.unwrap().items.len(), 1);
    let writes = audit::writes(world.environment, &world.namespace);
    let pods = writes
        .iter()
        .filter(|w| w.verb == "create" && w.resource == "pods");
    assert_eq!(pods.count(), 1, "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_takes_at_most_six_writes_to_create() {
    let world = World::new("six").await;
    let (_hutch, tenant) = world.with_tenant("six", &[]).await;
    tenant.create().await.ok();
    tenant.stdout("true").await;
    let name = world.sandbox_of("six").await.name_any();
    world.ready(&name).await;
    let writes = audit::writes(world.environment, &world.namespace);
    let of_ours = |write: &&audit::Write| {
        write.resource != "leases" && !write.resource.starts_with("pods/exec")
    };
    let writes: Vec<_> = writes.iter().filter(of_ours).collect();
    assert!((4..=6).contains(&writes.len()), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_and_destroying_a_sandbox_can_be_repeated() {
    let world = World::new("lifecycle").await;
    let (_hutch, tenant) = world.with_tenant("sb", &[]).await;
    let options = json!({"sleepAfter": "10m", "keepAlive": true, "containerTimeouts": {"x": 1}});
    let data = tenant
        .post("/lifecycle", json!({"options": options}))
        .await
        .ok();
    assert_eq!(data["options"], options);
    assert_eq!(data["init"]["command"], "echo ready");
    let first = world.sandbox_of("sb").await;
    assert_eq!(first.spec.lifecycle.idle_timeout.as_deref(), Some("10m"));
    assert!(first.spec.lifecycle.keep_alive);

    let data = tenant
        .post("/lifecycle", json!({"options": null}))
        .await
        .ok();
    assert_eq!(data["options"], json!(null));
    tenant
        .post("/lifecycle", json!({"options": {"sleepAfter": 90}}))
        .await
        .ok();
    let same = world.sandbox_of("sb").await;
    assert_eq!(same.uid(), first.uid());
    assert_eq!(same.spec.lifecycle.idle_timeout.as_deref(), Some("90s"));
    assert!(same.spec.lifecycle.keep_alive, "other fields stay");

    tenant.run("echo data > file").await;
    assert_eq!(
        tenant.destroy().await.ok(),
        json!({"sandboxId": "sb", "destroyed": true})
    );
    assert_eq!(tenant.destroy().await.ok()["destroyed"], true);
    let all = ListParams::default();
    assert!(world.sandboxes().list(&all).await.unwrap().items.is_empty());
    assert!(
        world.pods().list(&all).await.unwrap().items.is_empty(),
        "destroyed means gone"
    );

    tenant.create().await.ok();
    assert_ne!(world.sandbox_of("sb").await.uid(), first.uid());
    assert_eq!(
        tenant.run("cat file").await["exitCode"],
        1,
        "a new sandbox is empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_normalized_id_matches_every_spelling() {
    let world = World::new("any-case").await;
    let (_hutch, tenant) = world.with_tenant("Mixed", &[]).await;
    let data = tenant
        .post("/lifecycle", json!({"options": {"normalizeId": true}}))
        .await
        .ok();
    assert_eq!(data["sandboxId"], "Mixed", "the header's value, unchanged");
    tenant.run("echo here > mark").await;
    for spelling in ["mixed", "MIXED", "Mixed"] {
        assert_eq!(tenant.about(spelling).stdout("cat mark").await, "here");
    }
    assert_eq!(
        world
            .sandboxes()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sandbox_past_the_limit_is_refused_with_a_reason() {
    let world = World::new("limit").await;
    let (_hutch, tenant) = world.with_tenant("1", &["--max-sandboxes", "2"]).await;
    let others = ["1", "2", "3", "4"].map(|id| tenant.about(id));
    let answers = join_all(others.iter().map(Tenant::create)).await;
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(made, 2);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        let text = "the limit of 2 sandboxes is reached: delete one that is not needed any more";
        let data = answer.fails(500, text);
        assert_eq!(
            (&data["created"], &data["initialized"]),
            (&json!(false), &json!(false))
        );
    }
    assert_eq!(
        world
            .sandboxes()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_named_and_costs_one_pod() {
    let world = World::new("no-image").await;
    let image = "registry.invalid/nothing:1";
    let (_hutch, tenant) = world.with_tenant("x", &["--default-image", image]).await;
    let answer = tenant.create().await;
    assert_eq!(answer.status, 500);
    let text = answer.body["data"]["error"].as_str().unwrap();
    assert!(
        text.contains(image) && text.contains("ImagePullFailed"),
        "{text}"
    );
    let sandbox = world.sandbox_of("x").await;
    let status = sandbox.status.clone().unwrap();
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "ImagePullFailed")
    );
    assert!(ready.message.contains(image), "{}", ready.message);
    let pods = world
        .pods()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(pods.len(), 1);

    // A user corrects the image. The pod never ran, so it is replaced.
    let patch = json!({"metadata": {"annotations": {"hutch.dev/restart": "now"}}, "spec": {"image": "python:3.11-slim"}});
    let api = world.sandboxes();
    api.patch(
        &sandbox.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .unwrap();
    tenant.create().await.ok();
    let writes = audit::writes(world.environment, &world.namespace);
    let pods = writes
        .iter()
        .filter(|w| w.verb == "create" && w.resource == "pods");
    assert_eq!(pods.count(), 2, "{writes:#?}");
}
