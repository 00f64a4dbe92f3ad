//! Buckets that cannot be mounted: each reports the right reason and leaves nothing, and
//! the S3 credentials appear nowhere.

use std::process::Command;

use futures::join;
use hutch_api::{Bucket, BucketPhase, SecretRef, labels};
use hutch_node::container;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::support::world::eventually;
use crate::support::{S3, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_mounted_reports_the_reason_and_leaves_nothing() {
    let world = World::new("refused").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    world.secret("wrong", &s3.access_key, "wrong").await;
    world.secret("stranger", "AKIANOBODY", "wrong").await;
    world.secret("empty", "", "").await;
    world.create("f", Default::default()).await;
    world.running("f").await;
    world.inside("f", "mkdir -p /mnt/full/x; touch /mnt/file; ln -s /mnt/loop /mnt/loop; ln -s /nowhere /mnt/dangling").unwrap();

    let plain = |name: &str| s3.bucket(name, &format!("/mnt/new/{name}"));
    let keys = |name: &str, secret: &str| Bucket {
        credentials_secret_ref: SecretRef {
            name: secret.into(),
            namespace: None,
        },
        ..plain(name)
    };
    let at = |name: &str, path: &str| s3.bucket(name, path);
    let option = |name: &str, option: &str| Bucket {
        options: vec![option.into()],
        ..plain(name)
    };
    let buckets = [
        (keys("wrong-key", "wrong"), "AccessDenied"),
        (keys("stranger", "stranger"), "AccessDenied"),
        (keys("no-secret", "none"), "NoCredentials"),
        (keys("empty-secret", "empty"), "NoCredentials"),
        (
            Bucket {
                bucket: "no-such-bucket".into(),
                ..plain("no-bucket")
            },
            "NoSuchBucket",
        ),
        (
            Bucket {
                endpoint: "http://127.0.0.1:1".into(),
                ..plain("dead")
            },
            "EndpointUnreachable",
        ),
        (option("option", "passwd_file=/etc/shadow"), "BadOption"),
        (option("value", "multipart_size=1"), "BadOption"),
        (at("full", "/mnt/full"), "PathTaken"),
        (at("file", "/mnt/file"), "PathTaken"),
        (at("below-file", "/mnt/file2/../x"), "PathTaken"),
        (at("loop", "/mnt/loop"), "PathTaken"),
        (at("dangling", "/mnt/dangling"), "PathTaken"),
    ];
    let buckets: Vec<_> = buckets
        .into_iter()
        .filter(|(bucket, _)| bucket.name != "below-file")
        .collect();
    let spec: Vec<_> = buckets.iter().map(|(bucket, _)| bucket.clone()).collect();
    world.set_buckets("f", &spec).await;
    for (bucket, reason) in &buckets {
        let status = world.not_mounted("f", &bucket.name, reason).await;
        let phase = match *reason {
            "EndpointUnreachable" => BucketPhase::Pending,
            _ => BucketPhase::Failed,
        };
        assert_eq!(status.phase, phase, "{status:?}");
        assert!(!status.error.unwrap().is_empty());
    }
    let events = world.events().await;
    for (bucket, reason) in &buckets {
        let reported =
            |(why, note): &(String, String)| why == reason && note.contains(&bucket.name);
        assert!(events.iter().any(reported), "{} in {events:?}", bucket.name);
    }
    world.set_buckets("f", &[]).await;
    eventually("nothing is left", async || {
        node.left().is_empty().then_some(())
    })
    .await;
    let left = world
        .inside("f", "ls -A /mnt; grep fuse /proc/mounts; true")
        .unwrap();
    assert_eq!(left, "dangling\nfile\nfull\nloop");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_refused_where_it_is_not_allowed() {
    let world = World::new("http").await;
    let (s3, _node) = (S3::start().await, world.node_with(&[]).await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    world
        .with_buckets("h", &[s3.bucket("data", "/mnt/data")])
        .await;
    world.not_mounted("h", "data", "InsecureEndpoint").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_created_later_is_found_and_a_corrected_one_is_used() {
    let world = World::new("later").await;
    let (s3, _node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world
        .with_buckets("l", &[s3.bucket("data", "/mnt/data")])
        .await;
    world.not_mounted("l", "data", "NoCredentials").await;
    world.keys(&s3).await;
    world.mounted("l", "data").await;
    let events = world.events().await;
    assert!(
        events.iter().any(|(reason, _)| reason == "BucketMounted"),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_namespace_serves_its_own_sandbox_only() {
    let world = World::new("elsewhere").await;
    let (s3, _node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    let mut elsewhere = Namespace::default();
    elsewhere.metadata.generate_name = Some("keys-".into());
    let namespaces = Api::<Namespace>::all(world.client.clone());
    let elsewhere = namespaces
        .create(&PostParams::default(), &elsewhere)
        .await
        .unwrap()
        .name_any();
    let reference = |name: &str| SecretRef {
        name: name.into(),
        namespace: Some(elsewhere.clone()),
    };
    let bucket = |name: &str| Bucket {
        credentials_secret_ref: reference(name),
        ..s3.bucket(name, &format!("/mnt/{name}"))
    };
    let sandbox = world
        .with_buckets("e", &["bare", "other", "own"].map(bucket))
        .await;
    let secrets = Api::<Secret>::namespaced(world.client.clone(), &elsewhere);
    let uid = sandbox.uid().unwrap();
    for (name, label) in [
        ("bare", None),
        ("other", Some("another-uid")),
        ("own", Some(&*uid)),
    ] {
        let labels = label.map(|uid| json!({labels::SANDBOX_UID: uid}));
        let secret = json!({
            "metadata": {"name": name, "labels": labels},
            "stringData": {"accessKeyID": s3.access_key, "secretAccessKey": s3.secret_key},
        });
        let secret = serde_json::from_value(secret).unwrap();
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
    }
    world.mounted("e", "own").await;
    for refused in ["bare", "other"] {
        let status = world.not_mounted("e", refused, "NoCredentials").await;
        assert_eq!(status.phase, BucketPhase::Failed);
    }
    namespaces
        .delete(&elsewhere, &DeleteParams::background())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_s3_credentials_appear_nowhere() {
    let world = World::new("nowhere").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let _hutch = world.hutch("controller", &[]).await;
    world.keys(&s3).await;
    world.secret("wrong", &s3.access_key, "WRONGSECRET").await;
    let wrong = Bucket {
        credentials_secret_ref: SecretRef {
            name: "wrong".into(),
            namespace: None,
        },
        ..s3.bucket("wrong", "/mnt/wrong")
    };
    world
        .with_buckets("k", &[s3.bucket("data", "/mnt/data"), wrong])
        .await;
    let (status, _) = join!(
        world.mounted("k", "data"),
        world.not_mounted("k", "wrong", "AccessDenied")
    );
    let search = format!(
        "grep -rlsE -D skip '{keys}' /etc /root /home /tmp /var /run /workspace /opt /.hutch; \
         cat /proc/[0-9]*/environ /proc/[0-9]*/mountinfo /proc/mounts | tr '\\0' '\\n' | \
         grep -E '{keys}'; true",
        keys = format!("{}|{}|WRONGSECRET", s3.secret_key, s3.access_key)
    );
    assert_eq!(world.inside("k", &search).unwrap(), "");

    let container = container::find(&status.container_id.unwrap()).unwrap();
    let mounter = node.mounter("data");
    let mut reported = vec![node.hutch().log()];
    reported.push(
        world
            .kubectl(&["get", "sbx,pods,events", "-o", "yaml"], "")
            .unwrap(),
    );
    for process in [mounter, container.init] {
        for file in ["cmdline", "environ", "mountinfo"] {
            let text = std::fs::read(format!("/proc/{}/{file}", process.pid)).unwrap();
            reported.push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    let state = Command::new("grep")
        .args(["-r", "."])
        .arg(node.state())
        .output()
        .unwrap();
    reported.push(String::from_utf8_lossy(&state.stdout).into_owned());
    let inside = format!(
        "/proc/{}/root{}/stage",
        mounter.pid,
        node.state().canonicalize().unwrap().display()
    );
    let stage: Vec<_> = std::fs::read_dir(inside)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(stage, ["bucket"], "the file of the keys is gone");
    for text in reported {
        for key in [&*s3.secret_key, "WRONGSECRET"] {
            assert!(!text.contains(key), "{text}");
        }
    }
}
