//! The status of a sandbox's buckets. The test writes it as `hutch-node` would.

use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::sandbox::manifest;
use crate::support::audit;
use crate::support::declared::Buckets;
use hutch_api::{BucketPhase, Phase};

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_ready_when_its_buckets_are_and_degraded_when_they_fail() {
    let mut buckets = Buckets::new("mounted").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    buckets.fake(&node).await;
    let _hutch = buckets.controller(&csi, &node).await;
    let ephemeral = json!({"persistence": "Ephemeral", "size": "64Mi"});
    let spec = json!({"workspace": ephemeral, "buckets": [buckets.entry(json!({}))]});
    let world = &buckets.world;
    world.apply(&manifest("box", spec)).unwrap();
    let status = buckets.in_phase("box", Phase::Pending, "Mounting").await;
    assert!(status.buckets.is_empty() && status.pod_uid.is_some());
    buckets
        .node_says("box", BucketPhase::Failed, Some("AccessDenied"))
        .await;
    buckets.in_phase("box", Phase::Failed, "AccessDenied").await;
    buckets.node_says("box", BucketPhase::Mounted, None).await;
    buckets.in_phase("box", Phase::Ready, "Ready").await;
    world.condition("box", "BucketsReady", "Mounted").await;
    let columns = world.kubectl(&["get", "sbx", "-o", "wide"], "").unwrap();
    assert!(columns.contains("BUCKETS"), "{columns}");

    let down = Some("EndpointUnreachable");
    buckets.node_says("box", BucketPhase::Degraded, down).await;
    buckets
        .in_phase("box", Phase::Degraded, "EndpointUnreachable")
        .await;
    let pod = world.pods().get("box").await.unwrap().uid();
    buckets
        .node_says("box", BucketPhase::Failed, Some("NoSuchBucket"))
        .await;
    buckets
        .in_phase("box", Phase::Degraded, "NoSuchBucket")
        .await;
    buckets.node_says("box", BucketPhase::Mounted, None).await;
    buckets.in_phase("box", Phase::Ready, "Ready").await;
    assert_eq!(world.pods().get("box").await.unwrap().uid(), pod);
    buckets.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_mounted_at_once_costs_the_controller_one_write() {
    let mut buckets = Buckets::new("one-write").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    buckets.fake(&node).await;
    let _hutch = buckets.controller(&csi, &node).await;
    let world = &buckets.world;
    let ephemeral = json!({"persistence": "Ephemeral", "size": "64Mi"});
    let spec = json!({"workspace": ephemeral});
    world.apply(&manifest("box", spec)).unwrap();
    world.ready("box").await;
    let begun = Timestamp::now().to_string();
    let statuses = || {
        let mut writes = audit::writes(world.environment, &world.namespace);
        writes.retain(|write| write.resource == "sandboxes/status" && write.at > begun);
        writes
    };
    let added = json!({"spec": {"buckets": [buckets.entry(json!({}))]}});
    world.patch("box", added).await;
    buckets.node_says("box", BucketPhase::Mounted, None).await;
    world.ready("box").await;
    world.condition("box", "BucketsReady", "Mounted").await;
    let writes = statuses();
    assert_eq!(
        writes.len(),
        2,
        "the node's and the controller's: {writes:?}"
    );
    // The controller reports a bucket that needs longer.
    let mut two = vec![buckets.entry(json!({}))];
    two.push(buckets.entry(json!({"name": "slow", "mountPath": "/mnt/slow"})));
    world.patch("box", json!({"spec": {"buckets": two}})).await;
    buckets.in_phase("box", Phase::Degraded, "Mounting").await;
    buckets.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mounter_the_sandbox_says_what_to_install() {
    let mut buckets = Buckets::new("no-mounter").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    let _hutch = buckets.controller(&csi, &node).await;
    let world = &buckets.world;
    let ephemeral = json!({"persistence": "Ephemeral", "size": "64Mi"});
    let spec = json!({"workspace": ephemeral, "buckets": [buckets.entry(json!({}))]});
    world.apply(&manifest("box", spec)).unwrap();
    let status = buckets.in_phase("box", Phase::Failed, "NoMounter").await;
    let reported = world.condition("box", "BucketsReady", "NoMounter").await;
    for word in ["hutch-node", "--csi-driver"] {
        assert!(reported.message.contains(word), "{}", reported.message);
    }
    let entry = &status.buckets[0];
    assert_eq!(entry.phase, BucketPhase::Failed);
    assert_eq!(entry.reason.as_deref(), Some("NoMounter"));
    assert!(entry.container_id.is_some() && entry.digest.is_some());

    buckets.fake(&node).await;
    let world = &buckets.world;
    world.condition("box", "BucketsReady", "Mounting").await;
    world
        .sandbox("box", |s| s.status.as_ref().unwrap().buckets.is_empty())
        .await;
    buckets.node_says("box", BucketPhase::Mounted, None).await;
    buckets.in_phase("box", Phase::Ready, "Ready").await;
    let sandbox = world.ready("box").await;
    assert!(sandbox.meta().finalizers.is_none());
    buckets.end().await;
}
