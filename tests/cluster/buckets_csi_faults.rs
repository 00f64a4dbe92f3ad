//! Volumes whose mounter, whose `hutch-node`, or both are killed.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::volume::Volume;
use crate::support::world::eventually;
use crate::support::{S3, World};

/// A mount is repaired in the running container within this time.
const REPAIR_LIMIT: Duration = Duration::from_secs(20);

/// Waits until the pod reads the object again.
async fn readable(world: &World, pod: &str) {
    let begun = Instant::now();
    eventually("the bucket is readable again", async || {
        let text = world.sh(pod, "cat /mnt/b/file");
        (text.as_deref() == Ok("text")).then_some(())
    })
    .await;
    assert!(
        begun.elapsed() < REPAIR_LIMIT,
        "after {:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_outlives_the_death_of_its_mounter_and_of_hutch_node() {
    let world = World::new("csi-heal").await;
    let s3 = S3::start().await;
    let mut node = world.node().await;
    s3.put("data", "file", "text");
    world.make_with_pod(&Volume::of(&s3, "p", "data")).await;
    let mut reader = Volume::of(&s3, "q", "data");
    reader.read_only = true;
    world.make_with_pod(&reader).await;
    let pods = [world.running_pod("p").await, world.running_pod("q").await];

    // Only the mounters end: everything is mounted again, also in the containers.
    let first = node.mounters();
    assert_eq!(first.len(), 2);
    first
        .iter()
        .for_each(|mounter| mounter.signal(Signal::KILL));
    readable(&world, "p").await;
    readable(&world, "q").await;
    assert!(world.sh("q", "touch /mnt/b/x").is_err());

    // Only `hutch-node` ends: no pod notices it, and the next process takes the mounters
    // over.
    let before = node.mounters();
    node.kill();
    assert_eq!(world.sh("p", "cat /mnt/b/file").unwrap(), "text");
    node.start(&world).await;
    eventually("the kubelet is served again", async || {
        node.hutch()
            .log()
            .contains("the kubelet knows the driver")
            .then_some(())
    })
    .await;
    assert_eq!(node.mounters().len(), 2);
    assert!(before.iter().all(|mounter| mounter.runs()));

    // Both end: the keys are read again from the Secret that the volume names.
    node.kill();
    before
        .iter()
        .for_each(|mounter| mounter.signal(Signal::KILL));
    node.start(&world).await;
    readable(&world, "p").await;
    readable(&world, "q").await;
    world.sh("p", "echo more > /mnt/b/more").unwrap();
    assert_eq!(s3.get("data", "more").unwrap(), "more\n");

    // A later pod gets the volume like any other.
    world.make_with_pod(&Volume::of(&s3, "r", "data")).await;
    let late = world.running_pod("r").await;
    readable(&world, "r").await;

    world.delete_pods(&["p", "q", "r"]).await;
    eventually("nothing is left of the volumes", async || {
        let mut left = world.on_the_host(&pods);
        left.extend(world.on_the_host(std::slice::from_ref(&late)));
        left.extend(node.left());
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_is_withdrawn_when_hutch_node_stops_and_its_mounts_stay() {
    let world = World::new("csi-stop").await;
    let s3 = S3::start().await;
    let mut node = world.node().await;
    let driver = world.driver().await;
    s3.put("data", "file", "text");
    world.make_with_pod(&Volume::of(&s3, "p", "data")).await;
    let pod = world.running_pod("p").await;

    node.stop().await;
    world.until_unregistered(&driver).await;
    assert_eq!(world.sh("p", "cat /mnt/b/file").unwrap(), "text");
    node.start(&world).await;

    world.delete_pods(&["p"]).await;
    eventually("nothing is left of the volume", async || {
        let mut left = world.on_the_host(std::slice::from_ref(&pod));
        left.extend(node.left());
        left.is_empty().then_some(())
    })
    .await;
}
