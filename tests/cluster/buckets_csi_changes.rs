//! Buckets as volumes of Restricted sandboxes, and changes of their spec, their keys, their
//! S3 service and the other sandboxes that share them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use rustix::process::Signal;

use crate::buckets_csi_sandbox::{begin, restricted};
use crate::support::World;
use crate::support::node::Node;
use crate::support::steps::condition;
use crate::support::world::eventually;
use hutch_api::{BucketPhase, Mechanism, Phase, Sandbox};

const IDLE: &str = "sleep infinity";
const FUSE: &str = "grep -c fuse /proc/mounts || true";

/// Deletes the sandbox, and checks that nothing is left.
async fn ends(world: &World, node: &Node, name: &str) {
    let pod = world.pods().get(name).await.unwrap();
    world.delete(name).await;
    eventually("nothing is left of the bucket", async || {
        let mut left = world.on_the_host(std::slice::from_ref(&pod));
        left.extend(node.left());
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_the_spec_drops_is_unmounted_in_the_running_pod_and_can_return() {
    let (world, s3, node, _hutch) = begin("csi-dropped").await;
    let bucket = s3.bucket("data", "/mnt/data");
    restricted(&world, "s", std::slice::from_ref(&bucket), IDLE).await;
    world.ready("s").await;
    world.mounted("s", "data").await;
    let pod = world.pods().get("s").await.unwrap();
    let user = "cd /mnt/data; echo kept > file; sleep 600 > /dev/null 2>&1 & echo $!";
    let pid = world.inside("s", user).unwrap();

    world.set_buckets("s", &[]).await;
    let busy = |sandbox: &Sandbox| {
        let mut all = sandbox.status.iter().flat_map(|status| &status.buckets);
        all.any(|entry| entry.name == "data" && entry.phase == BucketPhase::Busy)
    };
    world.sandbox("s", busy).await;
    assert_eq!(world.inside("s", "cat /mnt/data/file").unwrap(), "kept");
    world.inside("s", &format!("kill {pid}")).unwrap();
    world.forgotten("s", "data").await;
    assert_eq!(world.inside("s", FUSE).unwrap(), "0");
    assert_eq!(s3.get("data", "file").unwrap(), "kept\n");

    // Its mounter runs as long as the pod exists. A repair does not restart the container.
    let before = node.mounters();
    before.iter().for_each(|one| one.signal(Signal::KILL));
    eventually("the volume is healed on the host", async || {
        let now = node.mounters();
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
    assert_eq!(world.inside("s", FUSE).unwrap(), "0");

    world.set_buckets("s", &[bucket]).await;
    let back = world.mounted("s", "data").await;
    assert_eq!(back.mechanism, Some(Mechanism::Live));
    let script = "cat /mnt/data/file; echo more > /mnt/data/more; stat -c %u /mnt/data/file";
    assert_eq!(world.inside("s", script).unwrap(), "kept\n1000");
    let sandbox = world.ready("s").await;
    assert!(condition(&sandbox, "RestartPending").is_none());
    assert_eq!(world.pods().get("s").await.unwrap().uid(), pod.uid());

    ends(&world, &node, "s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_a_wrong_key_reports_it_and_is_mounted_when_the_secret_is_corrected() {
    let (world, s3, node, hutch) = begin("csi-wrong").await;
    s3.put("data", "file", "text");
    world.change_secret("keys", &s3.access_key, "wrong").await;
    restricted(&world, "s", &[s3.bucket("data", "/mnt/data")], IDLE).await;
    let reported = world.condition("s", "Ready", "AccessDenied").await;
    assert!(
        reported.message.contains("bucket data"),
        "{}",
        reported.message
    );
    let sandbox = world.sandboxes().get("s").await.unwrap();
    let status = sandbox.status.unwrap();
    assert_eq!(status.phase, Phase::Failed);
    let entry = &status.buckets[0];
    assert_eq!(entry.phase, BucketPhase::Failed);
    assert_eq!(entry.reason.as_deref(), Some("AccessDenied"));
    assert_eq!(entry.mechanism, Some(Mechanism::Csi));
    eventually("nothing is left of the attempt", async || {
        node.left().is_empty().then_some(())
    })
    .await;

    let (id, key) = (&s3.access_key, &s3.secret_key);
    world.change_secret("keys", id, key).await;
    world.ready("s").await;
    assert_eq!(world.inside("s", "cat /mnt/data/file").unwrap(), "text");
    world.mounted("s", "data").await;

    // No text has contained a key.
    let search = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/mounts | tr '\\0' '\\n'; \
                  grep -rs '' /etc /tmp /run /workspace 2> /dev/null; env";
    let inside = world.inside("s", search).unwrap();
    let kinds = "sbx,pods,events,pvc,pv";
    let objects = world.kubectl(&["get", kinds, "-o", "yaml"], "").unwrap();
    let logs = [hutch.log(), node.hutch().log()];
    for output in [inside, objects].into_iter().chain(logs) {
        assert!(!output.contains(key), "{output}");
    }
    ends(&world, &node, "s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_comes_back_with_the_sandbox_and_with_another_pod() {
    let (world, s3, node, _hutch) = begin("csi-back").await;
    restricted(&world, "s", &[s3.bucket("data", "/mnt/data")], IDLE).await;
    world.ready("s").await;
    world.inside("s", "echo 1 > /mnt/data/file").unwrap();
    world.suspend("s").await;
    world.gone::<Pod>("s").await;
    eventually("nothing is mounted meanwhile", async || {
        node.left().is_empty().then_some(())
    })
    .await;
    world.resume("s").await;
    world.ready("s").await;
    assert_eq!(world.inside("s", "cat /mnt/data/file").unwrap(), "1");

    let pod = world.pods().get("s").await.unwrap();
    let at_once = DeleteParams::default();
    world.pods().delete("s", &at_once).await.unwrap();
    world
        .object("s", |other: &Pod| other.uid() != pod.uid())
        .await;
    world.ready("s").await;
    world.mounted("s", "data").await;
    assert_eq!(world.inside("s", "cat /mnt/data/file").unwrap(), "1");
    ends(&world, &node, "s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_share_a_volume_that_outlives_each_of_them_and_is_used_again() {
    let (world, s3, node, hutch) = begin("csi-shared").await;
    let bucket = s3.bucket("data", "/mnt/data");
    for name in ["one", "two"] {
        restricted(&world, name, std::slice::from_ref(&bucket), IDLE).await;
    }
    for name in ["one", "two"] {
        world.ready(name).await;
    }
    world.inside("one", "echo 1 > /mnt/data/file").unwrap();
    assert_eq!(world.inside("two", "cat /mnt/data/file").unwrap(), "1");
    let mounters = node.mounters();
    assert_eq!(mounters.len(), 1, "one volume, one mounter");

    world.delete("one").await;
    world.gone::<Pod>("one").await;
    let script = "echo 2 >> /mnt/data/file; cat /mnt/data/file";
    assert_eq!(world.inside("two", script).unwrap(), "1\n2");
    assert_eq!(node.mounters(), mounters);
    world.mounted("two", "data").await;

    // The last sandbox is deleted while no controller runs: the volume is released and
    // still exists.
    hutch.kill();
    let claims = world.claims().list(&ListParams::default()).await.unwrap();
    let of_bucket = |claim: &&PersistentVolumeClaim| claim.name_any().starts_with("bucket-");
    let claim = claims.iter().find(of_bucket).unwrap();
    let name = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
    let at_once = DeleteParams::background();
    world.sandboxes().delete("two", &at_once).await.unwrap();
    let volumes = Api::<PersistentVolume>::all(world.client.clone());
    let in_phase = async |phase: &str| {
        eventually(phase, async || {
            let volume = volumes.get(&name).await.ok()?;
            (volume.status?.phase.as_deref() == Some(phase)).then_some(())
        })
        .await;
    };
    in_phase("Released").await;
    restricted(&world, "three", &[bucket], IDLE).await;
    let place = ["--operator-namespace", &world.namespace];
    let all = [&place[..], &["--allow-http-buckets"]].concat();
    let _hutch = world.hutch("controller", &all).await;
    world.ready("three").await;
    in_phase("Bound").await;
    assert_eq!(world.inside("three", "cat /mnt/data/file").unwrap(), "1\n2");
    ends(&world, &node, "three").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_service_hangs_is_degraded_until_it_is_back() {
    let (world, s3, node, _hutch) = begin("csi-hung").await;
    restricted(&world, "s", &[s3.bucket("data", "/mnt/data")], IDLE).await;
    world.ready("s").await;
    let mounters = node.mounters();
    s3.signal("STOP");
    let ill = world.not_mounted("s", "data", "EndpointUnreachable").await;
    assert_eq!(ill.phase, BucketPhase::Degraded);
    assert!(ill.error.unwrap().contains("S3 service"));
    world
        .condition("s", "BucketsReady", "EndpointUnreachable")
        .await;
    assert_eq!(world.inside("s", "echo fine").unwrap(), "fine");
    s3.signal("CONT");
    world.mounted("s", "data").await;
    world.ready("s").await;
    assert_eq!(node.mounters(), mounters, "it was not made again");
    assert_eq!(
        world
            .inside("s", "echo y > /mnt/data/y; cat /mnt/data/y")
            .unwrap(),
        "y"
    );
    ends(&world, &node, "s").await;
}
