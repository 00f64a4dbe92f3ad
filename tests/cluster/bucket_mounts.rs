//! `/mount-bucket` and `/unmount-bucket` with a real S3 server and a real mounter.

use hutch_api::labels;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::tenant::Answer;
use crate::support::{Hutch, S3, Tenant, World};

const PATH: &str = "/mnt/data";

/// Everything that a mount needs, with the sandbox `a` awake.
pub async fn prepared(name: &str) -> (World, S3, Node, Hutch, Tenant) {
    let world = World::new(name).await;
    let (s3, node) = (S3::start().await, world.node().await);
    let (hutch, tenant) = tenant(&world, &[]).await;
    (world, s3, node, hutch, tenant)
}

/// A Hutch that knows the node's driver, and the sandbox `a`, awake.
pub async fn tenant(world: &World, arguments: &[&str]) -> (Hutch, Tenant) {
    let driver = world.driver().await;
    let own = ["--allow-http-buckets", "--node-driver", &driver];
    let keys = ["--operator-namespace", &world.namespace];
    let all = [&own[..], &keys[..], arguments].concat();
    let (hutch, tenant) = world.with_tenant("a", &all).await;
    tenant.create().await.ok();
    (hutch, tenant)
}

fn wanted(s3: &S3) -> Value {
    json!({
        "bucket": "data",
        "mountPath": PATH,
        "sessionId": "default",
        "options": {
            "endpoint": s3.url(),
            "provider": "minio",
            "credentials": {"accessKeyId": s3.access_key, "secretAccessKey": s3.secret_key},
        },
    })
}

pub async fn mount(tenant: &Tenant, s3: &S3, change: impl FnOnce(&mut Value)) -> Answer {
    let mut body = wanted(s3);
    change(&mut body);
    tenant.post("/mount-bucket", body).await
}

/// Checks that no entry, Secret, process or directory is left.
pub async fn nothing_is_left(world: &World, node: &Node, tenant: &Tenant) {
    assert!(world.sandbox_of("a").await.spec.buckets.is_empty());
    assert!(secrets(world).await.is_empty());
    assert_eq!(node.left(), Vec::<String>::new());
    assert_eq!(tenant.stdout("ls -a /mnt").await, ".\n..");
}

async fn unmount(tenant: &Tenant) -> Answer {
    let query = [("mountPath", PATH), ("sessionId", "default")];
    tenant.delete("/unmount-bucket", &query).await
}

async fn secrets(world: &World) -> Vec<Secret> {
    let all: Api<Secret> = world.api();
    let ours = ListParams::default().labels(labels::SANDBOX_UID);
    all.list(&ours).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_usable_at_once_and_all_that_was_written_is_in_it_at_the_end() {
    let (world, s3, node, _hutch, tenant) = prepared("use").await;
    s3.put("data", "before", "was there");
    let data = mount(&tenant, &s3, |_| {}).await.ok();
    let mut options = wanted(&s3)["options"].clone();
    options.as_object_mut().unwrap().remove("credentials");
    assert_eq!(
        data,
        json!({
            "sandboxId": "a", "sessionId": "default", "bucket": "data", "mountPath": PATH,
            "mounted": true, "options": options,
        })
    );
    tenant
        .post(
            "/files/write",
            json!({"path": format!("{PATH}/new"), "content": "now"}),
        )
        .await
        .ok();
    assert_eq!(s3.get("data", "new").as_deref(), Some("now"));
    let script = format!("cat {PATH}/before; stat -c %u {PATH}/new");
    assert_eq!(tenant.stdout_in("other", &script).await, "was there0");
    assert!(tenant.stdout("ls /mnt/data").await.contains("new"));

    let sandbox = world.sandbox_of("a").await;
    assert_eq!(sandbox.spec.buckets.len(), 1);
    assert_eq!(secrets(&world).await.len(), 1);
    tenant
        .run("dd if=/dev/zero of=/mnt/data/large bs=1M count=24")
        .await;
    let data = unmount(&tenant).await.ok();
    let expected =
        json!({"sandboxId": "a", "sessionId": "default", "mountPath": PATH, "unmounted": true});
    assert_eq!(data, expected);
    assert_eq!(s3.get("data", "large").unwrap().len(), 24 << 20);
    assert_eq!(tenant.stdout("ls /mnt").await, "");
    assert!(world.sandbox_of("a").await.spec.buckets.is_empty());
    assert!(secrets(&world).await.is_empty());
    assert_eq!(node.left(), Vec::<String>::new());
    unmount(&tenant).await.fails(404, "Not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mount_reports_the_reason_and_leaves_nothing() {
    let (world, s3, node, _hutch, tenant) = prepared("fail").await;
    type Change = fn(&mut Value);
    let wrong: [(&str, Change); 4] = [
        ("credentials", |body| {
            body["options"]["credentials"]["secretAccessKey"] = json!("not-the-key");
        }),
        ("no bucket", |body| body["bucket"] = json!("nowhere")),
        ("reached", |body| {
            body["options"]["endpoint"] = json!("http://127.0.0.1:9");
        }),
        ("allowed", |body| {
            body["options"]["s3fsOptions"] = json!(["passwd_file=/etc/shadow"]);
        }),
    ];
    for (word, change) in wrong {
        let answer = mount(&tenant, &s3, change).await;
        let status = if word == "allowed" { 400 } else { 500 };
        let data = answer.refused(status);
        let text = data["error"].as_str().unwrap();
        assert!(text.contains(word), "{text}");
        assert_eq!(data["mounted"], false);
        nothing_is_left(&world, &node, &tenant).await;
    }
    // The sandbox works as before.
    mount(&tenant, &s3, |_| {}).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_mounted_once_and_a_busy_mount_stays() {
    let (_world, s3, _node, _hutch, tenant) = prepared("busy").await;
    mount(&tenant, &s3, |_| {}).await.ok();
    let again = mount(&tenant, &s3, |_| {}).await.refused(400);
    assert!(again["error"].as_str().unwrap().contains("mounted already"));
    let inside = mount(&tenant, &s3, |body| {
        body["mountPath"] = json!("/mnt/data/deeper")
    });
    inside.await.refused(400);
    let running = tenant
        .begin_in("user", "/tmp/mark", "cd /mnt/data; exec 3> open; sleep 600")
        .await;
    tenant.until_exists("/mnt/data/open").await;
    let busy = unmount(&tenant).await.refused(409);
    assert!(busy["unmounted"] == false && busy["error"].as_str().unwrap().contains("in use"));
    tenant.stdout("echo still > /mnt/data/still").await;
    assert_eq!(s3.get("data", "still").as_deref(), Some("still\n"));
    tenant
        .delete("/session", &[("session_id", "user")])
        .await
        .ok();
    running.await.unwrap();
    unmount(&tenant).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_bucket_outlive_the_sandbox() {
    let (_world, s3, _node, _hutch, tenant) = prepared("outlive").await;
    mount(&tenant, &s3, |body| {
        body["options"]["prefix"] = json!("/run-7/")
    })
    .await
    .ok();
    let bytes = tenant
        .stdout("head -c 300000 /dev/urandom > /mnt/data/bytes; sha256sum < /mnt/data/bytes")
        .await;
    tenant.destroy().await.ok();
    let next = tenant.about("b");
    next.create().await.ok();
    mount(&next, &s3, |body| {
        body["options"]["prefix"] = json!("/run-7");
        body["options"]["readOnly"] = json!(true);
    })
    .await
    .ok();
    assert_eq!(next.stdout("sha256sum < /mnt/data/bytes").await, bytes);
    assert_ne!(next.run("rm /mnt/data/bytes").await["exitCode"], 0);
    assert!(s3.path("data", "run-7/bytes").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_comes_back_with_the_sandbox() {
    let (world, s3, _node, _hutch, tenant) = prepared("back").await;
    mount(&tenant, &s3, |_| {}).await.ok();
    tenant.stdout("echo 1 > /mnt/data/one").await;
    let name = world.sandbox_of("a").await.metadata.name.unwrap();
    world.suspend(&name).await;
    world.gone::<k8s_openapi::api::core::v1::Pod>(&name).await;
    world.resume(&name).await;
    crate::support::world::eventually("the sandbox is back", async || {
        let answer = tenant
            .post("/exec", json!({"command": "cat /mnt/data/one"}))
            .await;
        let stdout = answer.body["data"]["result"]["stdout"].clone();
        // The first command that is answered sees the bucket.
        (answer.status == 200).then(|| assert_eq!(stdout, "1", "{:#}", answer.body))
    })
    .await;
    world
        .pods()
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    crate::support::world::eventually("the new pod has it, too", async || {
        let answer = tenant
            .post("/exec", json!({"command": "cat /mnt/data/one"}))
            .await;
        (answer.body["data"]["result"]["stdout"] == "1").then_some(())
    })
    .await;
    unmount(&tenant).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facades_own_s3_credentials_serve_requests_without_any_and_stay_secret() {
    let world = World::new("hidden").await;
    let (s3, node) = (S3::start().await, world.node().await);
    let keys = [
        "--aws-access-key-id",
        &s3.access_key,
        "--aws-secret-access-key",
        &s3.secret_key,
    ];
    let (hutch, tenant) = tenant(&world, &keys).await;
    let answer = mount(&tenant, &s3, |body| {
        body["options"]
            .as_object_mut()
            .unwrap()
            .remove("credentials");
    })
    .await;
    assert!(!answer.body.to_string().contains(&s3.secret_key));
    answer.ok();
    let search = format!(
        "{{ env; cat /proc/*/environ /proc/*/cmdline /proc/mounts; mount; }} 2>/dev/null | tr '\\0' '\\n' | grep -cF {0}; grep -rlF {0} / --exclude-dir=proc --exclude-dir=sys 2>/dev/null",
        s3.secret_key
    );
    // The command line of this search contains the key, once.
    let found = tenant.run(&search).await;
    let found = found["stdout"].as_str().unwrap();
    assert!(
        found.lines().next().unwrap().parse::<u32>().unwrap() <= 3 && found.lines().count() == 1,
        "{found}"
    );
    let objects = world
        .kubectl(&["get", "sbx,pods,events,pv,pvc", "-o", "yaml"], "")
        .unwrap();
    for output in [objects, hutch.log(), node.hutch().log()] {
        assert!(!output.contains(&s3.secret_key));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mounter_the_answer_says_what_to_install() {
    let world = World::new("nobody").await;
    let s3 = S3::start().await;
    let (_hutch, tenant) = tenant(&world, &[]).await;
    let data = mount(&tenant, &s3, |_| {}).await.refused(501);
    assert!(
        data["error"].as_str().unwrap().contains("hutch-node"),
        "{data:#}"
    );
    assert!(secrets(&world).await.is_empty());
    assert_eq!(tenant.stdout("echo fine").await, "fine");
}
