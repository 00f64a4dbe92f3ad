//! S3 services behind `/mount-bucket` that hang, swallow everything, or use TLS.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::bucket_mounts::{mount, nothing_is_left, tenant};
use crate::support::proxy::Proxy;
use crate::support::{S3, World};

/// How long the service hangs.
const HANG_TIME: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_for_a_minute_disturbs_no_other_and_works_again() {
    let world = World::new("minute").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let (_hutch, a) = tenant(&world, &[]).await;
    let (b, c) = (a.about("b"), a.about("c"));
    b.create().await.ok();
    c.create().await.ok();
    for each in [&a, &c] {
        mount(each, &s3, |_| {}).await.ok();
    }
    a.stdout("echo before > /mnt/data/file").await;
    let mut mounters = node.mounters();
    s3.signal("STOP");
    let begun = Instant::now();
    let hangs = json!({"command": "(cat /mnt/data/hangs; touch /mnt/data/x) > /dev/null 2>&1 &"});
    for each in [&a, &c] {
        each.post("/exec", hangs.clone()).await.ok();
    }
    for round in 0.. {
        let file = json!({"path": "/workspace/file", "content": round.to_string()});
        a.post("/files/write", file).await.ok();
        let read = a.post("/files/read", json!({"path": "/workspace/file"}));
        assert_eq!(read.await.ok()["content"], round.to_string());
        assert_eq!(a.stdout("ls /mnt").await, "data");
        assert_eq!(b.stdout("echo on").await, "on");
        if round == 0 {
            // A sandbox whose command hangs in the bucket is deleted like any other.
            c.destroy().await.ok();
        }
        if begun.elapsed() >= HANG_TIME {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    crate::support::world::eventually("the destroyed one leaves nothing", async || {
        (node.mounters().len() == 1).then_some(())
    })
    .await;
    mounters.retain(|mounter| mounter.runs());
    assert_eq!(mounters, node.mounters(), "the other waits for the service");
    s3.signal("CONT");
    crate::support::world::eventually("the bucket answers again", async || {
        let read = json!({"command": "cat /mnt/data/file", "timeout": 5000});
        let answer = a.post("/exec", read).await;
        (answer.body["data"]["result"]["stdout"] == "before").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_swallows_everything_is_given_up_and_leaves_nothing() {
    let world = World::new("hole").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let (_hutch, a) = tenant(&world, &[]).await;
    let proxy = Proxy::to(s3.port).await;
    proxy.swallow_all();
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let through = async || mount(&a, &s3, |body| body["options"]["endpoint"] = json!(url)).await;
    let data = through().await.refused(500);
    let error = data["error"].as_str().unwrap();
    assert!(error.contains("not answered"), "{error}");
    nothing_is_left(&world, &node, &a).await;
    proxy.pass_all();
    through().await.ok();
    assert_eq!(a.stdout("echo x > /mnt/data/x; cat /mnt/data/x").await, "x");
}

/// Creates a certificate authority and its certificate for 127.0.0.1. Returns the files of
/// the authority's certificate, the server's certificate and the server's key.
fn authority(directory: &Path, name: &str) -> [PathBuf; 3] {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    let texts = [own.pem(), server.pem(), server_key.serialize_pem()];
    let mut number = 0;
    texts.map(|text| {
        number += 1;
        let file = directory.join(format!("{name}-{number}.pem"));
        std::fs::write(&file, text).unwrap();
        file
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_tls_is_used_when_the_node_trusts_it_and_refused_when_not() {
    let world = World::new("tls").await;
    // Not below /tmp, because every sandbox has its own /tmp.
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let [known, certificate, key] = authority(directory.path(), "known");
    let trusted = S3::start_on("127.0.0.1", Some((certificate, key))).await;
    let [_, certificate, key] = authority(directory.path(), "unknown");
    let untrusted = S3::start_on("127.0.0.1", Some((certificate, key))).await;
    let known = known.display().to_string();
    let node = world.node_with(&["--ca-file", &known]).await;
    let (_hutch, a) = tenant(&world, &[]).await;

    let data = mount(&a, &untrusted, |_| {}).await.refused(500);
    let error = data["error"].as_str().unwrap();
    assert!(
        error.contains("does not trust") && error.contains("--ca-file"),
        "{error}"
    );
    nothing_is_left(&world, &node, &a).await;
    mount(&a, &trusted, |_| {}).await.ok();
    assert_eq!(a.stdout("echo x > /mnt/data/x; cat /mnt/data/x").await, "x");
    assert_eq!(trusted.get("data", "x").as_deref(), Some("x\n"));
}
