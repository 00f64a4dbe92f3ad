//! Declared buckets of Restricted sandboxes: volumes that the controller creates and
//! `hutch-node` mounts.

use kube::ResourceExt;
use rustix::process::Signal;

use crate::support::node::Node;
use crate::support::world::eventually;
use crate::support::{Hutch, S3, World};
use hutch_api::{Bucket, BucketPhase, Mechanism, Sandbox, SandboxSpec, SecurityProfile};

pub async fn begin(test: &str) -> (World, S3, Node, Hutch) {
    let world = World::new(test).await;
    let s3 = S3::start().await;
    let node = world.node().await;
    // The test's namespace is also the operator's, so no other test cleans it up.
    let place = ["--operator-namespace", &world.namespace];
    let all = [&place[..], &["--allow-http-buckets"]].concat();
    let hutch = world.hutch("controller", &all).await;
    world.keys(&s3).await;
    (world, s3, node, hutch)
}

pub async fn restricted(world: &World, name: &str, buckets: &[Bucket], start: &str) -> Sandbox {
    let command = ["sh", "-c", start].map(str::to_owned).to_vec();
    let spec = SandboxSpec {
        buckets: buckets.to_vec(),
        security_profile: Some(SecurityProfile::Restricted),
        command,
        ..Default::default()
    };
    world.create(name, spec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_bucket_is_mounted_before_the_entrypoint_and_repaired_in_the_running_pod() {
    let (world, s3, node, _hutch) = begin("csi-declared").await;
    s3.put("data", "in/greeting", "hello");
    let mut bucket = s3.bucket("data", "/mnt/data");
    bucket.prefix = Some("/in/".to_owned());
    let start = "cat /mnt/data/greeting > /mnt/data/seen; sleep infinity";
    restricted(&world, "s", &[bucket], start).await;
    world.ready("s").await;
    let status = world.mounted("s", "data").await;
    assert_eq!(status.mechanism, Some(Mechanism::Csi));
    eventually("the entrypoint has seen the bucket", async || {
        (s3.get("data", "in/seen").as_deref() == Some("hello")).then_some(())
    })
    .await;
    let pod = world.pods().get("s").await.unwrap();

    for mounter in node.mounters() {
        mounter.signal(Signal::KILL);
    }
    eventually("it is healed in the container", async || {
        let seen = world.inside("s", "cat /mnt/data/greeting");
        (seen.as_deref() == Ok("hello")).then_some(())
    })
    .await;
    let now = world.pods().get("s").await.unwrap();
    assert_eq!(now.uid(), pod.uid(), "without another pod");
    world
        .bucket("s", "data", |status| status.phase == BucketPhase::Mounted)
        .await;

    world.delete("s").await;
    eventually("nothing is left of the bucket", async || {
        let mut left = world.on_the_host(std::slice::from_ref(&pod));
        left.extend(node.left());
        left.is_empty().then_some(())
    })
    .await;
}
