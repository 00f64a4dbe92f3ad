//! Faults of the controller and around it: crashes between its writes, quotas, and objects
//! that stay broken.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::sandbox::manifest;
use crate::support::late::Late;
use crate::support::world::eventually;
use crate::support::{Tenant, World};
use hutch_api::{Phase, Sandbox};
use hutch_core::names;

async fn no_pods_quota(world: &World) {
    let quota: ResourceQuota = serde_json::from_value(json!({
        "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}},
    }))
    .unwrap();
    let api = world.api::<ResourceQuota>();
    api.create(&PostParams::default(), &quota).await.unwrap();
    // The admission reads the status of the quota.
    world
        .object::<ResourceQuota>("none", |quota| {
            quota.status.as_ref().is_some_and(|s| s.hard.is_some())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_between_claim_and_pod_continues_with_the_same_claim() {
    let world = World::new("between").await;
    let history = world.history();
    no_pods_quota(&world).await;
    let hutch = world.hutch("controller", &[]).await;
    world.apply(&manifest("box", json!({}))).unwrap();
    let ready = world.condition("box", "Ready", "QuotaExceeded").await;
    for word in ["exceeded quota: none", "pods=0"] {
        assert!(ready.message.contains(word), "{}", ready.message);
    }
    let sandbox = world.sandbox("box", |_| true).await;
    assert_eq!(sandbox.status.as_ref().unwrap().phase, Phase::Pending);
    let claims = world.claim_names().await;
    assert_eq!(claims.len(), 1, "the claim comes first");
    hutch.kill();

    let quotas = world.api::<ResourceQuota>();
    quotas
        .delete("none", &DeleteParams::default())
        .await
        .unwrap();
    let _hutch = world.hutch("controller", &[]).await;
    world.ready("box").await;
    assert_eq!(world.claim_names().await, claims);
    let pod = world.pods().get("box").await.unwrap();
    let pods = history.check(&pod).await;
    assert_eq!(pods[&sandbox.uid().unwrap()], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_raised_lets_the_pod_be_made_without_a_restart() {
    let world = World::new("quota").await;
    no_pods_quota(&world).await;
    let _hutch = world.hutch("controller", &[]).await;
    world.apply(&manifest("box", json!({}))).unwrap();
    world.condition("box", "Ready", "QuotaExceeded").await;
    let quotas = world.api::<ResourceQuota>();
    quotas
        .delete("none", &DeleteParams::default())
        .await
        .unwrap();
    world.ready("box").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_again_and_again_leaves_one_of_each() {
    let world = World::new("killed").await;
    let history = world.history();
    // No other controller runs here, so a new one need not wait for the lease.
    let start = async || world.hutch("controller", &["--no-leader-election"]).await;
    let names: Vec<_> = (0..10).map(|i| format!("box-{i}")).collect();
    let mut hutch = start().await;
    for name in &names {
        world
            .apply(&manifest(name, json!({"workspace": {"size": "64Mi"}})))
            .unwrap();
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        tokio::time::sleep(Duration::from_millis(random % 250)).await;
        hutch.kill();
        hutch = start().await;
    }
    let mut last = None;
    let mut owners = HashMap::new();
    for name in &names {
        owners.insert(world.ready(name).await.uid().unwrap(), name.clone());
        last = world.pods().get_opt(name).await.unwrap();
    }
    let pods = history.check(&last.unwrap()).await;
    assert_eq!(pods.len(), names.len());
    assert!(pods.values().all(|count| *count == 1), "{pods:?}");
    let all = ListParams::default();
    let claims = world.claims().list(&all).await.unwrap().items;
    let mut claimed: Vec<_> = claims
        .iter()
        .map(|c| &c.owner_references()[0].uid)
        .collect();
    claimed.sort();
    claimed.dedup();
    assert_eq!((claims.len(), claimed.len()), (names.len(), names.len()));
    assert!(claimed.iter().all(|uid| owners.contains_key(*uid)));

    for name in &names {
        let api = world.sandboxes();
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("nothing of ours is left", async || {
        let left =
            world.pods().list(&all).await.unwrap().items.len() + world.claim_names().await.len();
        (left == 0).then_some(())
    })
    .await;
}

/// Broken sandboxes: name, spec and the reported reason.
fn bad_ones() -> Vec<(&'static str, Value, &'static str)> {
    let big: Vec<_> = (0..30)
        .map(|i| json!({"name": format!("V{i}"), "value": "$".repeat(32768)}))
        .collect();
    vec![
        (
            "image",
            json!({"image": "registry.invalid/x:1"}),
            "ImagePullFailed",
        ),
        (
            "no-such-program",
            json!({"image": "UPPER/case:1"}),
            "ImagePullFailed",
        ),
        (
            "runtime",
            json!({"runtimeClassName": "no-such-class"}),
            "AdmissionDenied",
        ),
        (
            "class",
            json!({"workspace": {"storageClassName": "no-such-class"}}),
            "Unschedulable",
        ),
        (
            "node",
            json!({"securityProfile": "Root", "nodeSelector": {"no": "such"}}),
            "UserNamespacesUnsupported",
        ),
        (
            "large",
            json!({"resources": {"requests": {"cpu": "200"}}}),
            "Unschedulable",
        ),
        (
            "label",
            json!({"nodeSelector": {"not a label": "x"}}),
            "Invalid",
        ),
        ("huge", json!({"env": big}), "Invalid"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_never_stops_the_others() {
    let world = World::new("bad").await;
    let _hutch = world.hutch("controller", &[]).await;
    for (name, spec, _) in bad_ones() {
        let sandbox: Sandbox = serde_json::from_str(&manifest(name, spec)).unwrap();
        let api = world.sandboxes();
        api.create(&PostParams::default(), &sandbox).await.unwrap();
    }
    // Another one cannot be deleted.
    let mut held = Sandbox::new("held", hutch_api::SandboxSpec::default());
    held.finalizers_mut().push("hutch.dev/test".into());
    let api = world.sandboxes();
    api.create(&PostParams::default(), &held).await.unwrap();
    api.delete("held", &DeleteParams::default()).await.unwrap();
    for name in ["good-1", "good-2"] {
        world.apply(&manifest(name, json!({}))).unwrap();
        world.ready(name).await;
    }
    for (name, _, reason) in bad_ones() {
        let ready = world.condition(name, "Ready", reason).await;
        assert!(
            !ready.message.is_empty() && ready.message.len() < 1100,
            "{ready:?}"
        );
    }
    world
        .sandbox("held", |s| {
            s.status
                .as_ref()
                .is_some_and(|s| s.phase == Phase::Terminating)
        })
        .await;
    world
        .patch("held", json!({"metadata": {"finalizers": null}}))
        .await;
    world.gone::<Sandbox>("held").await;
    world.apply(&manifest("good-3", json!({}))).unwrap();
    world.ready("good-3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_does_not_answer_is_reported_and_awaited() {
    let world = World::new("webhook").await;
    let _hutch = world.hutch("controller", &[]).await;
    let name = &world.namespace;
    let hook: ValidatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": "nobody.hutch.dev",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        }],
    }))
    .unwrap();
    let hooks = Api::<ValidatingWebhookConfiguration>::all(world.client.clone());
    hooks.create(&PostParams::default(), &hook).await.unwrap();
    // The webhook counts once the API server has read it. Pods are admitted until then.
    eventually("the webhook is in force", async || {
        let dry = PostParams {
            dry_run: true,
            ..Default::default()
        };
        world.pods().create(&dry, &probe()).await.err()
    })
    .await;
    world.apply(&manifest("box", json!({}))).unwrap();
    let ready = world.condition("box", "Ready", "WebhookUnavailable").await;
    assert!(
        ready.message.contains("nobody.hutch.dev"),
        "{}",
        ready.message
    );
    let sandbox = world.sandbox("box", |_| true).await;
    assert_eq!(sandbox.status.unwrap().phase, Phase::Pending);
    hooks.delete(name, &DeleteParams::default()).await.unwrap();
    world.ready("box").await;
}

fn probe() -> Pod {
    let spec = json!({"containers": [{"name": "c", "image": "python:3.11-slim"}]});
    serde_json::from_value(json!({"metadata": {"name": "probe"}, "spec": spec})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_in_a_terminating_namespace_is_released() {
    let world = World::new("ending").await;
    let hutch = world.hutch("controller", &[]).await;
    let mut held = Sandbox::new("held", hutch_api::SandboxSpec::default());
    held.finalizers_mut().push("hutch.dev/test".into());
    let api = world.sandboxes();
    api.create(&PostParams::default(), &held).await.unwrap();
    world.ready("held").await;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .unwrap();
    world.gone::<Pod>("held").await;
    let sandbox = world
        .sandbox("held", |s| {
            s.status
                .as_ref()
                .is_some_and(|s| s.phase == Phase::Terminating)
        })
        .await;
    assert!(sandbox.meta().deletion_timestamp.is_some());
    world
        .patch("held", json!({"metadata": {"finalizers": null}}))
        .await;
    eventually("the namespace is gone", async || {
        let found = namespaces.get_opt(&world.namespace).await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    // Without its namespace and its lease, the controller continues to wait for work.
    assert!(hutch.metric("hutch_reconciles_total").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_pod_is_not_ready_again_while_its_watch_lags() {
    let world = World::new("late").await;
    let late = Late::pods(&world, Duration::from_secs(2)).await;
    let _controller = world.hutch_on(&late.environment, "controller", &[]);
    let facade = world.hutch("facade", &[]).await;
    let tenant = Tenant::new(&facade.url().await, "late");
    let sleepy = json!({"options": {"sleepAfter": "1s"}});
    tenant.post("/lifecycle", sleepy).await.ok();
    let ends = |pod: &Pod| pod.meta().deletion_timestamp.is_some();
    world.object(&names::sandbox("late"), ends).await;
    assert_eq!(tenant.stdout("echo awake").await, "awake");
    let reported = world.events().await;
    let lost = reported.iter().any(|(reason, _)| reason == "PodLost");
    assert!(!lost, "it was ready meanwhile: {reported:#?}");
}
