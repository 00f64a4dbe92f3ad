//! Faults of live mounts: killed mounters, a killed `hutch-node`, and S3 services that
//! hang. The mounts are repaired in the running container, and no other sandbox is
//! disturbed.

use std::time::{Duration, Instant};

use hutch_api::{Bucket, BucketPhase, Sandbox};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use rustix::process::Signal;

use crate::support::world::eventually;
use crate::support::{S3, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_mounter_is_started_again_in_the_running_container() {
    let world = World::new("killed").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    world
        .with_buckets("k", &[s3.bucket("data", "/mnt/data")])
        .await;
    let before = world.mounted("k", "data").await;
    world.inside("k", "echo kept > /mnt/data/file").unwrap();
    // A process has its working directory in the mount.
    world
        .inside("k", "(cd /mnt/data; exec sleep 300) > /dev/null 2>&1 &")
        .unwrap();
    let killed = node.mounters()[0];
    let begun = Instant::now();
    killed.signal(Signal::KILL);
    eventually("the file is there again", async || {
        (world.inside("k", "cat /mnt/data/file").ok()? == "kept").then_some(())
    })
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let after = world.mounted("k", "data").await;
    assert_eq!(after.container_id, before.container_id, "without a restart");
    assert_eq!(node.mounters().len(), 1);
    let dead = "grep -c fuse /proc/mounts";
    assert_eq!(
        world.inside("k", dead).unwrap(),
        "1",
        "the dead mount is gone"
    );
    world
        .inside("k", "pkill sleep || kill $(pidof sleep) || true")
        .unwrap();
    world.set_buckets("k", &[]).await;
    world.forgotten("k", "data").await;
    assert_eq!(node.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_outlive_a_killed_node_process_and_are_taken_over() {
    let world = World::new("adopted").await;
    let (s3, mut node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    let both = [s3.bucket("one", "/mnt/one"), s3.bucket("two", "/mnt/two")];
    world.with_buckets("a", &both).await;
    for bucket in ["one", "two"] {
        world.mounted("a", bucket).await;
    }
    let mut mounters = node.mounters();
    mounters.sort_by_key(|process| process.pid);
    node.kill();
    assert_eq!(
        world
            .inside("a", "echo on > /mnt/one/file; cat /mnt/two/file")
            .unwrap(),
        "on"
    );
    // Meanwhile one mount is removed from the spec, and the mounter of the other is killed.
    let version = world
        .sandboxes()
        .get("a")
        .await
        .unwrap()
        .metadata
        .resource_version;
    node.start(&world).await;
    assert_eq!(world.inside("a", "cat /mnt/one/file").unwrap(), "on");
    eventually("they were taken over", async || {
        (node.hutch().log().matches("took over a mount").count() == 2).then_some(())
    })
    .await;
    let mut now = node.mounters();
    now.sort_by_key(|process| process.pid);
    assert_eq!(now, mounters);

    node.kill();
    world.set_buckets("a", &both[1..]).await;
    mounters[0].signal(Signal::KILL);
    mounters[1].signal(Signal::KILL);
    node.start(&world).await;
    world.forgotten("a", "one").await;
    eventually("the other is made again", async || {
        (world.inside("a", "cat /mnt/two/file").ok()? == "on").then_some(())
    })
    .await;
    assert_eq!(
        world
            .inside("a", "grep -c fuse /proc/mounts; ls /mnt")
            .unwrap(),
        "1\ntwo"
    );
    assert_eq!(node.mounters().len(), 1);
    drop(version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_service_delays_no_other_mount_and_no_end_of_a_pod() {
    let world = World::new("hung").await;
    let (s3, other, node) = (S3::start().await, S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    world
        .secret("others", &other.access_key, &other.secret_key)
        .await;
    let healthy = || {
        let mut bucket = other.bucket("fine", "/mnt/fine");
        bucket.credentials_secret_ref.name = "others".into();
        bucket
    };
    world
        .with_buckets("h", &[s3.bucket("data", "/mnt/data"), healthy()])
        .await;
    world
        .with_buckets("n", &[s3.bucket("data", "/mnt/data")])
        .await;
    world.mounted("h", "data").await;
    world.mounted("h", "fine").await;
    world.mounted("n", "data").await;
    s3.signal("STOP");
    world
        .inside("n", "(cat /mnt/data/hangs) > /dev/null 2>&1 & sleep 0.2")
        .unwrap();
    world
        .inside("h", "(cat /mnt/data/hangs) > /dev/null 2>&1 & sleep 0.2")
        .unwrap();
    let begun = Instant::now();
    assert_eq!(
        world
            .inside("h", "echo x > /mnt/fine/x; cat /mnt/fine/x; ls /")
            .unwrap()
            .lines()
            .next(),
        Some("x")
    );
    // New sandboxes are served.
    world.with_buckets("new", &[healthy()]).await;
    world.mounted("new", "fine").await;
    // A sandbox whose command hangs in the bucket is deleted like any other.
    world
        .sandboxes()
        .delete("n", &DeleteParams::default())
        .await
        .unwrap();
    world.gone::<Sandbox>("n").await;
    world.gone::<Pod>("n").await;
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "{:?}",
        begun.elapsed()
    );
    let hung = world
        .bucket("h", "data", |status| status.phase == BucketPhase::Degraded)
        .await;
    assert_eq!(hung.reason.as_deref(), Some("EndpointUnreachable"));
    s3.signal("CONT");
    world.mounted("h", "data").await;
    assert_eq!(
        world
            .inside("h", "echo y > /mnt/data/y; cat /mnt/data/y")
            .unwrap(),
        "y"
    );
    eventually("nothing of the deleted sandbox is left", async || {
        (node.mounters().len() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_late_is_mounted_then() {
    let world = World::new("late").await;
    let (s3, _node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    s3.signal("STOP");
    let bucket = Bucket {
        options: vec!["retries=1".into()],
        ..s3.bucket("data", "/mnt/data")
    };
    world.with_buckets("l", &[bucket]).await;
    let late = world.not_mounted("l", "data", "EndpointUnreachable").await;
    assert_eq!(late.phase, BucketPhase::Pending);
    s3.signal("CONT");
    world.mounted("l", "data").await;
}
