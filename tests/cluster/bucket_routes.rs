//! `/mount-bucket` and `/unmount-bucket` without a mount: invalid requests are refused in
//! the contract's order and with its texts, and leave nothing.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::support::tenant::Answer;
use crate::support::{Tenant, World};

/// A valid request.
fn sensible() -> Value {
    json!({
        "bucket": "my-bucket",
        "mountPath": "/mnt/data",
        "sessionId": "default",
        "options": {
            "endpoint": "https://s3.example.com",
            "provider": "s3",
            "prefix": "/dir/",
            "credentials": {"accessKeyId": "id", "secretAccessKey": "keep-this-to-yourself"},
        },
    })
}

async fn mount(tenant: &Tenant, change: impl FnOnce(&mut Value)) -> Answer {
    let mut body = sensible();
    change(&mut body);
    tenant.post("/mount-bucket", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_field_of_a_mount_is_reported_with_the_contracts_text() {
    let world = World::new("mount-lacks").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    for (missing, message) in [
        ("bucket", "Missing bucket"),
        ("mountPath", "Missing mountPath"),
        ("options", "Missing options"),
    ] {
        for value in [Value::Null, json!(""), json!("  ")] {
            let answer = mount(&tenant, |body| body[missing] = value).await;
            let data = answer.fails(400, message);
            assert_eq!(data["sandboxId"], "a");
        }
    }
    for endpoint in [Value::Null, json!(" "), json!(7)] {
        let answer = mount(&tenant, |body| body["options"]["endpoint"] = endpoint).await;
        let data = answer.fails(400, "Missing endpoint");
        let text = "options.endpoint is required for /mount-bucket";
        assert_eq!(data["error"], text);
    }
    let answer = tenant.post("/unmount-bucket", json!({})).await;
    answer.fails(400, "Missing mountPath");
    let answer = tenant.get("/mount-bucket", &[]).await;
    answer.fails(405, "Method Not Allowed");
    let answer = tenant.get("/unmount-bucket", &[]).await;
    answer.fails(405, "Method Not Allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_mount_is_refused_in_the_contracts_order() {
    let world = World::new("mount-order").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    type Change = fn(&mut Value);
    let wrong: [(&str, Change); 6] = [
        ("Invalid endpoint", |body| {
            body["options"]["endpoint"] = json!("ftp://x");
        }),
        ("Invalid bucket", |body| body["bucket"] = json!("My_Bucket")),
        ("Invalid mountPath", |body| {
            body["mountPath"] = json!("mnt/data");
        }),
        ("Invalid prefix", |body| {
            body["options"]["prefix"] = json!("dir/");
        }),
        ("Missing credentials", |body| {
            body["options"]["credentials"] = json!({"accessKeyId": "id"});
        }),
        ("Sandbox or session not found", |_| {}),
    ];
    for first in 0..wrong.len() {
        let answer = mount(&tenant, |body| {
            wrong[first..].iter().for_each(|(_, change)| change(body));
        })
        .await;
        let status = if first == 5 { 404 } else { 400 };
        assert_eq!(answer.status, status, "{:#}", answer.body);
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.starts_with(wrong[first].0), "{message}");
        let data = &answer.body["data"];
        assert!(data["mounted"] == false && data["sessionId"] == "default");
        assert!(!answer.body.to_string().contains("keep-this"));
    }
    assert!(
        world
            .sandboxes()
            .list(&Default::default())
            .await
            .unwrap()
            .items
            .is_empty(),
        "no sandbox is made for a mount"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_into_a_sandbox_that_cannot_have_it_leaves_nothing() {
    let world = World::new("mount-refused").await;
    let here = ["--operator-namespace", world.namespace.as_str()];
    let (_hutch, tenant) = world.with_tenant("a", &here).await;
    tenant.create().await.ok();
    let unknown = mount(&tenant, |body| body["sessionId"] = json!("nobody")).await;
    unknown.fails(404, "Sandbox or session not found");
    let plain = mount(&tenant, |body| {
        body["options"]["endpoint"] = json!("http://127.0.0.1:9");
    });
    assert!(
        plain.await.refused(400)["error"]
            .as_str()
            .unwrap()
            .contains("https")
    );
    let keyless = mount(&tenant, |body| body["options"]["credentials"] = Value::Null);
    assert!(
        keyless.await.refused(400)["error"]
            .as_str()
            .unwrap()
            .starts_with("Missing credentials")
    );
    for path in [
        "/",
        "/proc/x",
        "/workspace",
        "/mnt/../etc",
        "/mnt/a b",
        "/mnt/$(id)",
        "/mnt/\u{7528}",
    ] {
        let answer = mount(&tenant, |body| body["mountPath"] = json!(path)).await;
        assert_eq!(answer.status, 400, "{path}: {:#}", answer.body);
    }
    for options in [json!("x"), json!([1]), json!(["a b"]), json!(vec!["x"; 40])] {
        let answer = mount(&tenant, |body| body["options"]["s3fsOptions"] = options);
        answer.await.refused(400);
    }
    for name in ["readOnly", "provider"] {
        let answer = mount(&tenant, |body| body["options"][name] = json!(1));
        answer.await.refused(400);
    }
    let answer = tenant.delete("/unmount-bucket", &[("mountPath", "/mnt/data")]);
    let data = answer.await.fails(404, "Not found");
    assert_eq!(data["mountPath"], "/mnt/data");
    let stranger = tenant.about("nobody");
    let answer = stranger.delete("/unmount-bucket", &[("path", "/mnt/data")]);
    answer.await.fails(404, "Not found");

    let sandbox = world.sandbox_of("a").await;
    assert!(sandbox.spec.buckets.is_empty());
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let left = secrets.list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty(), "{:?}", left.items);
}
