//! Live mounts of running sandboxes: their files, the owners of the files, and restarts.

use hutch_api::{Bucket, BucketPhase, Mechanism, SandboxSpec, SecurityProfile};
use hutch_node::container;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;

use crate::support::world::eventually;
use crate::support::{S3, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_seen_from_both_sides_and_leaves_nothing() {
    let world = World::new("both").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    s3.put("data", "there", "from S3");
    world
        .with_buckets("b", &[s3.bucket("data", "/mnt/deep/data")])
        .await;
    let status = world.mounted("b", "data").await;
    assert_eq!(status.mechanism, Some(Mechanism::Live));
    assert!(status.reason.is_none() && status.since.is_some() && status.last_check.is_some());

    let script = "cat /mnt/deep/data/there; echo 'from inside' > /mnt/deep/data/here; \
                  stat -c ' %u %g' /mnt/deep/data/there /mnt/deep/data/here /mnt/deep/data";
    assert_eq!(
        world.inside("b", script).unwrap(),
        "from S3 0 0\n 0 0\n 0 0"
    );
    assert_eq!(s3.get("data", "here").unwrap(), "from inside\n");
    let many = "cd /mnt/deep/data && mkdir d && cp there d/copy && mv d/copy d/moved && rm there \
                && chmod 755 here && ls -l here | cut -c1-10";
    assert_eq!(world.inside("b", many).unwrap(), "-rwxr-xr-x");
    assert_eq!(s3.get("data", "d/moved").unwrap(), "from S3");
    assert!(s3.get("data", "there").is_none());

    world.set_buckets("b", &[]).await;
    world.forgotten("b", "data").await;
    let gone = world.inside("b", "test ! -e /mnt/deep && ! grep fuse /proc/mounts");
    assert_eq!(gone, Ok(String::new()));
    assert_eq!(node.left(), Vec::<String>::new());
    assert_eq!(s3.get("data", "here").unwrap(), "from inside\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_refuses_and_a_prefix_confines() {
    let world = World::new("confined").await;
    let (s3, _node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    s3.put("data", "outside", "x");
    s3.put("data", "in/side", "y");
    let buckets = [
        Bucket {
            read_only: true,
            ..s3.bucket("ro", "/mnt/ro")
        },
        Bucket {
            prefix: Some("/in/".into()),
            ..s3.bucket("in", "/mnt/in")
        },
        Bucket {
            prefix: Some("/fresh".into()),
            ..s3.bucket("fresh", "/mnt/fresh")
        },
    ];
    world.with_buckets("c", &buckets).await;
    for bucket in ["ro", "in", "fresh"] {
        world.mounted("c", bucket).await;
    }
    assert_eq!(
        world
            .inside("c", "cat /mnt/ro/outside /mnt/ro/in/side")
            .unwrap(),
        "xy"
    );
    for write in [
        "echo > /mnt/ro/new",
        "rm /mnt/ro/outside",
        "mkdir /mnt/ro/d",
        "chmod 0 /mnt/ro/outside",
    ] {
        let refused = world.inside("c", write).unwrap_err();
        assert!(
            refused.contains("Read-only file system"),
            "{write}: {refused}"
        );
    }
    assert_eq!(
        world.inside("c", "ls /mnt/in; ls /mnt/fresh").unwrap(),
        "side"
    );
    world
        .inside(
            "c",
            "echo z > /mnt/in/new; echo f > /mnt/fresh/new; cd /mnt/in/..; ls /mnt/in/../in",
        )
        .unwrap();
    assert_eq!(s3.get("data", "in/new").unwrap(), "z\n");
    assert_eq!(s3.get("data", "fresh/new").unwrap(), "f\n");
    assert!(s3.get("data", "new").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_belong_to_the_user_of_the_sandbox() {
    let world = World::new("owners").await;
    let (s3, _node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    s3.put("data", "there", "x");
    let spec = |profile| SandboxSpec {
        security_profile: Some(profile),
        ..Default::default()
    };
    world.create("root", spec(SecurityProfile::Root)).await;
    world
        .create("user", spec(SecurityProfile::Restricted))
        .await;
    // A bucket that is added to a running sandbox is a live mount in both profiles.
    for (name, path) in [("root", "/mnt/data"), ("user", "/workspace/in/data")] {
        world.running(name).await;
        world.set_buckets(name, &[s3.bucket("data", path)]).await;
        world.mounted(name, "data").await;
    }
    let look = "stat -c '%u %g' there . ; cat there; echo mine > of-root; chmod 600 of-root";
    let seen = world
        .inside("root", &format!("cd /mnt/data; {look}"))
        .unwrap();
    assert_eq!(seen, "0 0\n0 0\nx");
    let look = "id -u; stat -c '%u %g' there . of-root ..; cat there of-root; echo also > of-user";
    let seen = world
        .inside("user", &format!("cd /workspace/in/data; {look}"))
        .unwrap();
    assert_eq!(
        seen,
        "1000\n1000 1000\n1000 1000\n1000 1000\n1000 1000\nxmine"
    );
    assert_eq!(
        world.inside("root", "cat /mnt/data/of-user").unwrap(),
        "also"
    );
    // Everything that was created for the mount is removed with it.
    world.set_buckets("user", &[]).await;
    world.forgotten("user", "data").await;
    assert_eq!(world.inside("user", "ls /workspace").unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_in_use_stays_until_it_is_not() {
    let world = World::new("busy").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    world
        .with_buckets("b", &[s3.bucket("data", "/mnt/data")])
        .await;
    world.mounted("b", "data").await;
    let hold = "(exec 3> /mnt/data/open; echo begun >&3; until [ -e /workspace/go ]; do sleep 0.1; done; \
                echo ended >&3) > /dev/null 2>&1 &";
    world.inside("b", hold).unwrap();
    world
        .inside("b", "until [ -e /mnt/data/open ]; do sleep 0.1; done")
        .unwrap();
    world.set_buckets("b", &[]).await;
    let busy = world
        .sandbox("b", |sandbox| {
            let mut entries = sandbox.status.iter().flat_map(|status| &status.buckets);
            entries.any(|entry| entry.phase == BucketPhase::Busy)
        })
        .await;
    let busy = &busy.status.unwrap().buckets[0];
    assert_eq!(
        (&*busy.name, busy.reason.as_deref()),
        ("data", Some("Busy"))
    );
    assert_eq!(
        world.inside("b", "ls /mnt/data").unwrap(),
        "open",
        "it works on"
    );
    world.inside("b", "touch /workspace/go").unwrap();
    world.forgotten("b", "data").await;
    assert_eq!(s3.get("data", "open").unwrap(), "begun\nended\n");
    assert_eq!(node.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_survives_the_restart_of_the_container_and_the_loss_of_the_pod() {
    let world = World::new("restart").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    world
        .with_buckets("r", &[s3.bucket("data", "/workspace/data")])
        .await;
    let first = world.mounted("r", "data").await;
    world
        .inside("r", "echo kept > /workspace/data/file")
        .unwrap();
    let mounters = node.mounters();

    let container = first.container_id.unwrap();
    container::find(&container)
        .unwrap()
        .init
        .signal(rustix::process::Signal::KILL);
    let second = world
        .bucket("r", "data", |status| {
            status.container_id.as_deref() != Some(&container)
        })
        .await;
    assert_eq!(second.phase, BucketPhase::Mounted);
    assert_eq!(
        world.inside("r", "cat /workspace/data/file").unwrap(),
        "kept"
    );
    assert_eq!(node.mounters(), mounters, "the mounter goes on");

    let uid = world.pods().get("r").await.unwrap().metadata.uid.unwrap();
    world
        .pods()
        .delete("r", &DeleteParams::default())
        .await
        .unwrap();
    eventually("another pod", async || {
        let pod: Pod = world.pods().get_opt("r").await.unwrap()?;
        (pod.metadata.uid.as_ref() != Some(&uid)).then_some(())
    })
    .await;
    world.mounted("r", "data").await;
    assert_eq!(
        world.inside("r", "cat /workspace/data/file").unwrap(),
        "kept"
    );
    assert_eq!(node.mounters().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_survives_sleep_and_wake_and_another_sandbox_finds_the_bytes() {
    let world = World::new("sleep").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    let bucket = s3.bucket("data", "/mnt/data");
    world.with_buckets("s", std::slice::from_ref(&bucket)).await;
    world.mounted("s", "data").await;
    world
        .inside(
            "s",
            "head -c 3000000 /dev/urandom > /mnt/data/big; cd /mnt/data; sha256sum big > sum",
        )
        .unwrap();
    world.suspend("s").await;
    world.gone::<Pod>("s").await;
    eventually("nothing is mounted for a sandbox that sleeps", async || {
        node.left().is_empty().then_some(())
    })
    .await;
    world.forgotten("s", "data").await;
    world.resume("s").await;
    world.running("s").await;
    world.mounted("s", "data").await;
    let check = "cd /mnt/data && sha256sum -c sum";
    assert_eq!(world.inside("s", check).unwrap(), "big: OK");
    world.delete("s").await;
    world.with_buckets("another", &[bucket]).await;
    world.mounted("another", "data").await;
    assert_eq!(world.inside("another", check).unwrap(), "big: OK");
}
