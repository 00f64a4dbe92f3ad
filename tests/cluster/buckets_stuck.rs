//! Live mounts whose mounter is stuck, and whose S3 credentials change.

use hutch_api::BucketPhase;
use rustix::process::Signal;

use crate::support::world::eventually;
use crate::support::{S3, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_mounter_is_continued_and_a_stuck_one_is_replaced() {
    let world = World::new("stuck").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    let bucket = s3.bucket("data", "/mnt/data");
    world.with_buckets("s", &[bucket]).await;
    let before = world.mounted("s", "data").await;
    let mounter = node.mounter("data");

    mounter.signal(Signal::STOP);
    // The command waits until the mounter continues.
    let write = "echo kept > /mnt/data/file; cat /mnt/data/file";
    assert_eq!(world.inside("s", write).unwrap(), "kept");
    assert_eq!(node.mounter("data"), mounter);
    world.mounted("s", "data").await;

    let stuck = tokio::spawn(async move {
        while mounter.runs() {
            mounter.signal(Signal::STOP);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    eventually("it is killed", async || (!mounter.runs()).then_some(())).await;
    stuck.await.unwrap();
    eventually("another one serves", async || {
        (world.inside("s", "cat /mnt/data/file").ok()? == "kept").then_some(())
    })
    .await;
    let after = world.mounted("s", "data").await;
    assert_eq!(after.container_id, before.container_id, "without a restart");
    assert_eq!(node.mounters().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_s3_credentials_are_used_in_the_running_sandbox_once_they_work() {
    let world = World::new("rekeyed").await;
    let (mut s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    let bucket = s3.bucket("data", "/mnt/data");
    world.with_buckets("s", &[bucket]).await;
    let before = world.mounted("s", "data").await;
    let mounter = node.mounter("data");

    // Wrong credentials are reported, and the mount stays in use.
    world.change_secret("keys", &s3.access_key, "wrong").await;
    let reported = world.not_mounted("s", "data", "AccessDenied").await;
    assert_eq!(reported.phase, BucketPhase::Mounted);
    assert_eq!(node.mounter("data"), mounter);
    assert_eq!(node.mounters().len(), 1, "nothing is left of the trial");
    let write = "echo 1 > /mnt/data/file; cat /mnt/data/file";
    assert_eq!(world.inside("s", write).unwrap(), "1");

    // If the service no longer accepts the old credentials, a mount in use is replaced,
    // too.
    let user = "(cd /mnt/data; exec sleep 300) > /dev/null 2>&1 &";
    world.inside("s", user).unwrap();
    s3.change_key();
    world
        .change_secret("keys", &s3.access_key, &s3.secret_key)
        .await;
    eventually("the new keys are in use", async || {
        (world.inside("s", "cat /mnt/data/file").ok()? == "1" && node.mounter("data") != mounter)
            .then_some(())
    })
    .await;
    let after = world
        .bucket("s", "data", |status| {
            status.phase == BucketPhase::Mounted && status.reason.is_none()
        })
        .await;
    assert_eq!(after.container_id, before.container_id, "without a restart");
    assert_eq!(node.mounters().len(), 1);
}
