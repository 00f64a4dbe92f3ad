//! Buckets as volumes of ordinary pods: `hutch-node` as a CSI driver of the real
//! kubelet, with the real s3fs and an S3 server that enforces its keys.

use crate::support::node::Node;
use crate::support::volume::Volume;
use crate::support::world::eventually;
use crate::support::{S3, World};
use k8s_openapi::api::core::v1::Pod;

async fn begin(test: &str) -> (World, S3, Node) {
    let world = World::new(test).await;
    let s3 = S3::start().await;
    let node = world.node().await;
    (world, s3, node)
}

/// Waits until nothing is left of the volumes: no mount, directory, process or record.
async fn all_gone(world: &World, node: &Node, pods: &[Pod]) {
    eventually("nothing is left of the volumes", async || {
        let mut left = world.on_the_host(pods);
        left.extend(node.left());
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_a_volume_of_a_restricted_pod_and_is_deleted_with_it() {
    let (world, s3, node) = begin("csi-volume").await;
    s3.put("data", "in/from-outside", "hello");
    s3.put("data", "secret", "not for the pod");
    world.make_with_pod(&Volume::of(&s3, "rw", "data/in")).await;
    let mut volume = Volume::of(&s3, "ro", "data");
    volume.options = "-o ro --uid 1000 --gid 1000".to_owned();
    world.make_with_pod(&volume).await;
    let pods = [world.running_pod("rw").await, world.running_pod("ro").await];

    let seen = world.sh(
        "rw",
        "id -u; cat /mnt/b/from-outside; ls -A /mnt/b; echo 'by the pod' > /mnt/b/new",
    );
    assert_eq!(seen.unwrap(), "1000\nhellofrom-outside\n");
    assert_eq!(s3.get("data", "in/new").unwrap(), "by the pod\n");
    let outside = world.sh("rw", "cat /mnt/b/../secret");
    assert!(outside.unwrap_err().contains("No such file"));

    assert_eq!(
        world.sh("ro", "cat /mnt/b/secret").unwrap(),
        "not for the pod"
    );
    let refused = world.sh("ro", "touch /mnt/b/x").unwrap_err();
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert_eq!(s3.get("data", "x"), None);

    world.delete_pods(&["rw", "ro"]).await;
    all_gone(&world, &node, &pods).await;
    assert_eq!(s3.get("data", "in/new").unwrap(), "by the pod\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_one_handle_share_neither_keys_nor_options() {
    let (world, s3, node) = begin("csi-handle").await;
    s3.put("data", "file", "text");
    let mut private = Volume::of(&s3, "private", "data");
    private.options = "-o uid=1000 -o gid=1000 -o umask=0077".to_owned();
    world.make_with_pod(&private).await;
    let first = world.running_pod("private").await;

    let mut open = Volume::of(&s3, "open", "data");
    open.mounter = "geesefs".to_owned();
    open.options = "--memory-limit 1000 --uid 1000 --dir-mode 0755 --file-mode 0644".to_owned();
    world.make_with_pod(&open).await;
    let mut reader = Volume::of(&s3, "reader", "data");
    reader.options.clone_from(&private.options);
    reader.read_only = true;
    world.make_with_pod(&reader).await;
    let mut thief = Volume::of(&s3, "thief", "data");
    thief.secret_key = "no key".to_owned();
    world.make_with_pod(&thief).await;
    world.complaint("thief", &["secretAccessKey"]).await;
    world
        .secret_of(&Volume {
            secret_key: "guess".to_owned(),
            ..thief
        })
        .await;
    world.complaint("thief", &["AccessDenied"]).await;

    let pods = [
        first,
        world.running_pod("open").await,
        world.running_pod("reader").await,
    ];
    let mode = "stat -c %a /mnt/b/file";
    assert_eq!(world.sh("private", mode).unwrap(), "700\n");
    assert_eq!(world.sh("open", mode).unwrap(), "755\n");
    assert!(
        world
            .sh("reader", "cat /mnt/b/file && ! touch /mnt/b/x")
            .is_ok()
    );
    assert!(world.sh("private", "touch /mnt/b/mine").is_ok());
    assert!(world.sh("thief", "true").is_err(), "it never ran");

    world
        .delete_pods(&["private", "open", "reader", "thief"])
        .await;
    all_gone(&world, &node, &pods).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_be_mounted_reports_the_reason_and_leaves_nothing() {
    let (world, s3, node) = begin("csi-refused").await;
    let volume = |name: &str, handle: &str| Volume::of(&s3, name, handle);
    let mut cases = vec![
        (
            volume("wrong-key", "data"),
            ["Unauthenticated", "AccessDenied"],
        ),
        (volume("no-bucket", "nothing"), ["NotFound", "NoSuchBucket"]),
        (
            volume("dead", "data/dead"),
            ["Unavailable", "EndpointUnreachable"],
        ),
        (
            volume("no-keys", "data/keys"),
            ["InvalidArgument", "secretAccessKey"],
        ),
        (
            volume("option", "data/option"),
            ["InvalidArgument", "passwd_file"],
        ),
        (
            volume("mounter", "data/mounter"),
            ["InvalidArgument", "goofys"],
        ),
        (
            volume("handle", "data/../x"),
            ["InvalidArgument", "volumeHandle"],
        ),
    ];
    cases[0].0.secret_key = "wrong".to_owned();
    cases[2].0.endpoint = "http://127.0.0.1:9".to_owned();
    cases[3].0.secret_key = String::new();
    cases[4].0.options = "-o passwd_file=/etc/shadow".to_owned();
    cases[5].0.mounter = "goofys".to_owned();
    for (volume, _) in &cases {
        world.make_with_pod(volume).await;
    }
    let mut pods = Vec::new();
    for (volume, words) in &cases {
        let output = world.complaint(&volume.name, words).await;
        assert!(!output.contains(&s3.secret_key), "{output}");
        pods.push(world.pods().get(&volume.name).await.unwrap());
    }
    assert!(!node.hutch().log().contains(&s3.secret_key));
    let names: Vec<_> = cases
        .iter()
        .map(|(volume, _)| volume.name.as_str())
        .collect();
    world.delete_pods(&names).await;
    all_gone(&world, &node, &pods).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_tls_is_refused_unless_it_is_allowed() {
    let world = World::new("csi-http").await;
    let s3 = S3::start().await;
    let node = world.node_with(&[]).await;
    world.make_with_pod(&Volume::of(&s3, "plain", "data")).await;
    let words = ["InsecureEndpoint", "--allow-http-buckets"];
    world.complaint("plain", &words).await;
    let pod = world.pods().get("plain").await.unwrap();
    world.delete_pods(&["plain"]).await;
    all_gone(&world, &node, &[pod]).await;
}
