//! Workspaces: the data after the end of pods and sandboxes, and objects of other owners,
//! which are never touched.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;
use tempfile::TempDir;

use crate::sandbox::manifest;
use crate::support::World;
use crate::support::steps::condition;
use crate::support::world::eventually;
use hutch_api::{Phase, ReclaimPolicy, Sandbox, labels};
use hutch_core::names;

fn claim_of(sandbox: &Sandbox) -> String {
    let status = sandbox.status.as_ref().unwrap();
    status.claim_name.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_deleted_with_its_sandbox_unless_it_is_retained() {
    let world = World::new("reclaim").await;
    let _hutch = world.hutch("controller", &[]).await;
    world.apply(&manifest("goes", json!({}))).unwrap();
    let retain = json!({"workspace": {"reclaimPolicy": "Retain"}});
    world.apply(&manifest("stays", retain)).unwrap();
    let goes = claim_of(&world.ready("goes").await);
    let stays = claim_of(&world.ready("stays").await);
    world.delete("goes").await;
    world.delete("stays").await;
    world.gone::<PersistentVolumeClaim>(&goes).await;
    world.gone::<Pod>("stays").await;
    let kept = world.claims().get(&stays).await.unwrap();
    assert_eq!(kept.labels()[labels::RETAINED], "true");
    assert!(kept.owner_references().is_empty());
    assert!(kept.metadata.deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sandbox_of_the_same_name_leaves_a_retained_claim_alone() {
    let world = World::new("again").await;
    let (_hutch, tenant) = world.with_tenant("again", &[]).await;
    let name = names::sandbox("again");
    tenant.create().await.ok();
    let retain = json!({"spec": {"workspace": {"reclaimPolicy": "Retain"}}});
    world.patch(&name, retain).await;
    let old = claim_of(&world.ready(&name).await);
    world
        .object::<PersistentVolumeClaim>(&old, |claim| {
            claim.owner_references().is_empty() && claim.labels().contains_key(labels::RETAINED)
        })
        .await;
    tenant.run("echo old > file").await;
    tenant.destroy().await.ok();
    let before = world.claims().get(&old).await.unwrap();

    tenant.create().await.ok();
    let new = claim_of(&world.ready(&name).await);
    assert_ne!(new, old);
    assert_eq!(tenant.run("cat file").await["exitCode"], 1, "it is empty");
    tenant.destroy().await.ok();
    let after = world.claims().get(&old).await.unwrap();
    assert_eq!(after.uid(), before.uid());
    assert!(after.metadata.deletion_timestamp.is_none());
    assert_eq!(after.labels(), before.labels());
    assert!(after.owner_references().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_claim_that_is_to_be_deleted_after_all_gets_its_owner_back() {
    let world = World::new("unretain").await;
    let _hutch = world.hutch("controller", &[]).await;
    let retain = json!({"workspace": {"reclaimPolicy": "Retain"}});
    world.apply(&manifest("box", retain)).unwrap();
    let sandbox = world.ready("box").await;
    let claim = claim_of(&sandbox);
    let pod = sandbox.status.unwrap().pod_uid;
    let delete = json!({"spec": {"workspace": {"reclaimPolicy": "Delete"}}});
    let patched = world.patch("box", delete).await;
    assert_eq!(patched.spec.workspace.reclaim_policy, ReclaimPolicy::Delete);
    world
        .object::<PersistentVolumeClaim>(&claim, |claim| {
            claim.owner_references().len() == 1 && !claim.labels().contains_key(labels::RETAINED)
        })
        .await;
    let sandbox = world.ready("box").await;
    assert_eq!(sandbox.status.unwrap().pod_uid, pod, "without a new pod");
    world.delete("box").await;
    world.gone::<PersistentVolumeClaim>(&claim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_pod_of_the_sandbox_s_name_is_never_touched() {
    let world = World::new("conflict").await;
    let _hutch = world.hutch("controller", &[]).await;
    // One pod without labels, and one that poses as Hutch's.
    for (name, label) in [("plain", None), ("posing", Some("hutch"))] {
        let labels =
            label.map(|value| json!({(labels::MANAGED_BY): value, (labels::SANDBOX): name}));
        let foreign: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": "python:3.11-slim", "command": ["sleep", "3600"]}],
            },
        }))
        .unwrap();
        let pods = world.pods();
        pods.create(&PostParams::default(), &foreign).await.unwrap();
        let foreign = world
            .object::<Pod>(name, |pod| {
                pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
            })
            .await;
        world.apply(&manifest(name, json!({}))).unwrap();
        let ready = world.condition(name, "Ready", "NameConflict").await;
        assert!(ready.message.contains("remove it"), "{}", ready.message);
        let sandbox = world.sandbox(name, |_| true).await;
        let status = sandbox.status.clone().unwrap();
        assert_eq!((status.phase, &status.pod_name), (Phase::Failed, &None));
        world.suspend(name).await;
        world.condition(name, "Ready", "Suspended").await;
        world.resume(name).await;
        world.condition(name, "Ready", "NameConflict").await;
        let same = pods.get(name).await.unwrap();
        assert_eq!(same.uid(), foreign.uid());
        assert_eq!(same.labels(), foreign.labels());
        assert!(same.owner_references().is_empty());
        assert!(same.metadata.deletion_timestamp.is_none());

        pods.delete(name, &DeleteParams::default()).await.unwrap();
        let sandbox = world.ready(name).await;
        assert_ne!(sandbox.status.unwrap().pod_uid, foreign.uid());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_workspace_has_no_claim_and_reports_the_consequence() {
    let world = World::new("ephemeral").await;
    let (_hutch, tenant) = world.with_tenant("e", &[]).await;
    let name = names::sandbox("e");
    let workspace = json!({"persistence": "Ephemeral", "size": "64Mi"});
    world
        .apply(&manifest(&name, json!({"workspace": workspace})))
        .unwrap();
    let sandbox = world.ready(&name).await;
    assert_eq!(sandbox.status.as_ref().unwrap().claim_name, None);
    let reported = condition(&sandbox, "WorkspaceReady").unwrap();
    assert_eq!(
        (reported.status.as_str(), reported.reason.as_str()),
        ("True", "Ephemeral")
    );
    assert!(world.claim_names().await.is_empty());
    tenant.stdout("echo x > f").await;
    let pod = world.pods().get(&name).await.unwrap();
    world
        .pods()
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    world.next_pod(&name, &pod.uid().unwrap()).await;
    assert_eq!(tenant.run("cat f").await["exitCode"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_cannot_grow_reports_the_reason_and_stays_in_use() {
    let world = World::new("grow").await;
    let _hutch = world.hutch("controller", &[]).await;
    world
        .apply(&manifest("box", json!({"workspace": {"size": "1Gi"}})))
        .unwrap();
    world.ready("box").await;
    world
        .patch("box", json!({"spec": {"workspace": {"size": "2Gi"}}}))
        .await;
    let reported = world
        .condition("box", "WorkspaceReady", "ResizeRefused")
        .await;
    assert_eq!(reported.status, "True");
    for word in ["1Gi", "2Gi"] {
        assert!(reported.message.contains(word), "{}", reported.message);
    }
    world.ready("box").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_deleted_by_hand_is_reported_and_created_again_at_the_next_start() {
    let world = World::new("claim-lost").await;
    let (_hutch, tenant) = world.with_tenant("c", &[]).await;
    tenant.stdout("echo x > f").await;
    let name = names::sandbox("c");
    let sandbox = world.ready(&name).await;
    let claim = claim_of(&sandbox);
    let uid = world.claims().get(&claim).await.unwrap().uid();
    world
        .claims()
        .delete(&claim, &DeleteParams::default())
        .await
        .unwrap();
    let reported = world
        .condition(&name, "WorkspaceReady", "ClaimTerminating")
        .await;
    assert!(reported.message.contains(&claim), "{}", reported.message);
    // The pod protects the claim: the data can be copied until the pod is deleted.
    assert!(
        world
            .pods()
            .get(&name)
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_none()
    );
    world.suspend(&name).await;
    world.gone::<PersistentVolumeClaim>(&claim).await;
    world.resume(&name).await;
    world.ready(&name).await;
    let made = world.claims().get(&claim).await.unwrap();
    assert_ne!(made.uid(), uid);
    assert_eq!(tenant.run("cat f").await["exitCode"], 1);
    eventually("an event reports the loss", async || {
        let events = world.events().await;
        events
            .iter()
            .any(|(reason, _)| reason == "WorkspaceLost")
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_again_and_again_is_a_new_sandbox_each_time() {
    let world = World::new("same-name").await;
    let history = world.history();
    let _hutch = world.hutch("controller", &[]).await;
    let mut seen = HashSet::new();
    for _ in 0..4 {
        world.apply(&manifest("box", json!({}))).unwrap();
        let sandbox = world.ready("box").await;
        assert!(seen.insert(claim_of(&sandbox)));
        let pod = world.pods().get("box").await.unwrap();
        assert_eq!(pod.owner_references()[0].uid, sandbox.uid().unwrap());
        // The deletion is not awaited, so the next sandbox of the name meets its remains.
        let api = world.sandboxes();
        api.delete("box", &DeleteParams::background())
            .await
            .unwrap();
    }
    world.apply(&manifest("box", json!({}))).unwrap();
    let sandbox = world.ready("box").await;
    let pod = world.pods().get("box").await.unwrap();
    let pods = history.check(&pod).await;
    assert!(pods.values().all(|count| *count == 1), "{pods:?}");
    let claim = claim_of(&sandbox);
    eventually("only the last claim is left", async || {
        (world.claim_names().await == [claim.clone()]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_reused_without_a_controller_belongs_to_the_new_sandbox() {
    let world = World::new("unseen").await;
    let hutch = world.hutch("controller", &[]).await;
    world.apply(&manifest("box", json!({}))).unwrap();
    let old = world.ready("box").await;
    hutch.kill();
    let api = world.sandboxes();
    api.delete("box", &DeleteParams::background())
        .await
        .unwrap();
    world.apply(&manifest("box", json!({}))).unwrap();
    let _hutch = world.hutch("controller", &[]).await;
    let new = world.ready("box").await;
    assert_ne!(new.uid(), old.uid());
    let pod = world.pods().get("box").await.unwrap();
    assert_eq!(pod.owner_references()[0].uid, new.uid().unwrap());
    world.gone::<PersistentVolumeClaim>(&claim_of(&old)).await;
}

/// A volume of the storage class `closed` that only root may enter.
async fn closed_volume(world: &World, directory: &TempDir) {
    let path = directory.path().join("volume");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    // No other test uses the class, so no other claim is bound to the volume.
    let (name, class) = (&world.namespace, &world.namespace);
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": class, "hostPath": {"path": path},
        },
    }))
    .unwrap();
    let volumes = Api::<PersistentVolume>::all(world.client.clone());
    volumes
        .create(&PostParams::default(), &volume)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_is_closed_to_the_user_of_the_sandbox_is_reported() {
    let world = World::new("closed").await;
    world.environment.require_test_cluster();
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    closed_volume(&world, &directory).await;
    let _hutch = world.hutch("controller", &[]).await;
    let workspace = json!({"storageClassName": world.namespace, "size": "1Gi"});
    let spec = json!({"securityProfile": "Restricted", "workspace": workspace});
    world.apply(&manifest("box", spec)).unwrap();
    let reported =
        |sandbox: &Sandbox| condition(sandbox, "Ready").is_some_and(|c| c.reason == "AgentExited");
    let sandbox = world.sandbox("box", reported).await;
    let ready = condition(&sandbox, "Ready").unwrap();
    assert!(
        ready
            .message
            .contains("the workspace is closed to the agent's user"),
        "{}",
        ready.message
    );
    world.delete("box").await;
    let volumes = Api::<PersistentVolume>::all(world.client.clone());
    let at_once = DeleteParams::default();
    volumes.delete(&world.namespace, &at_once).await.unwrap();
}
