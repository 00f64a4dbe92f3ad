//! Buckets that the API server refuses by the custom resource definitions alone.

use serde_json::{Value, json};

use crate::schema::{Trial, long};
use crate::support::World;

fn bucket(change: &Value) -> Value {
    let mut bucket = json!({
        "name": "a", "bucket": "my-bucket", "endpoint": "https://s3.example.com",
        "mountPath": "/mnt/a", "credentialsSecretRef": {"name": "keys"},
    });
    for (key, value) in change.as_object().unwrap() {
        bucket[key] = value.clone();
    }
    bucket
}

/// Sandboxes with these buckets. Each changes a valid one.
fn with_buckets(changes: &[Value]) -> Value {
    json!({"buckets": changes.iter().map(bucket).collect::<Vec<_>>()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_bucket_is_refused_with_its_reason() {
    let world = World::new("buckets").await;
    let trial = Trial::of(&world, "Sandbox");
    let one = |key: &str, value: Value| with_buckets(&[json!({key: value})]);
    let at = |field: &str| format!("spec.buckets[0].{field}");
    let covers = "buckets[].mountPath must not cover a directory that the image or Hutch needs";
    let cases = [
        (one("name", json!("")), at("name")),
        (one("name", json!("Upper")), at("name")),
        (one("name", json!("a.b")), at("name")),
        (
            one("name", json!(long(56))),
            "may not be more than 55".into(),
        ),
        (one("bucket", json!("ab")), at("bucket")),
        (one("bucket", json!("My-Bucket")), at("bucket")),
        (one("bucket", json!("-bucket")), at("bucket")),
        (
            one("bucket", json!(long(64))),
            "may not be more than 63".into(),
        ),
        (one("prefix", json!("data/")), at("prefix")),
        (one("prefix", json!("/a//b")), at("prefix")),
        (one("prefix", json!("/a\nb")), at("prefix")),
        (
            one("prefix", json!("/a/../b")),
            "buckets[].prefix must not have the segments . and ..".into(),
        ),
        (one("endpoint", json!("ftp://x")), at("endpoint")),
        (one("endpoint", json!("https://user@x")), at("endpoint")),
        (one("endpoint", json!("https://x?y")), at("endpoint")),
        (one("region", json!("eu 1")), at("region")),
        (one("provider", json!("azure")), "supported values".into()),
        (one("mountPath", json!("/")), at("mountPath")),
        (one("mountPath", json!("mnt/a")), at("mountPath")),
        (one("mountPath", json!("/mnt/a/")), at("mountPath")),
        (one("mountPath", json!("/mnt//a")), at("mountPath")),
        (one("mountPath", json!("/etc")), covers.into()),
        (one("mountPath", json!("/.hutch/state")), covers.into()),
        (
            one("mountPath", json!("/mnt/../etc")),
            "buckets[].mountPath must not have the segments . and ..".into(),
        ),
        (one("options", json!(["a=1,b=2"])), at("options[0]")),
        (one("options", json!(["two words"])), at("options[0]")),
        (one("options", json!(["Upper"])), at("options[0]")),
        (one("options", json!(["-o"])), at("options[0]")),
        (
            one("options", json!(vec!["a"; 33])),
            "must have at most 32 items".into(),
        ),
        (
            one("credentialsSecretRef", json!({})),
            at("credentialsSecretRef.name"),
        ),
        (
            one("secret", json!("x")),
            "field not declared in schema".into(),
        ),
    ];
    let cases: Vec<_> = cases
        .iter()
        .map(|(spec, why)| (spec.clone(), why.as_str()))
        .collect();
    trial.refuses(&cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_buckets_is_limited_and_their_paths_do_not_overlap() {
    let world = World::new("many-buckets").await;
    let trial = Trial::of(&world, "Sandbox");
    let paths = |paths: &[&str]| {
        let named = |(i, path): (usize, &&str)| json!({"name": format!("b{i}"), "mountPath": path});
        with_buckets(&paths.iter().enumerate().map(named).collect::<Vec<_>>())
    };
    let many = |count: usize| {
        let long = "y".repeat(240);
        let paths: Vec<_> = (0..count).map(|i| format!("/mnt/{long}{i}")).collect();
        self::with_buckets(
            &paths
                .iter()
                .enumerate()
                .map(|(i, path)| json!({"name": format!("b{i}"), "mountPath": path}))
                .collect::<Vec<_>>(),
        )
    };
    let in_workspace = |workspace: &str, path: &str| {
        let mut spec = paths(&[path]);
        spec["workspace"] = json!({"mountPath": workspace});
        spec
    };
    let overlap = "the mountPaths of two buckets must not overlap";
    let covers = "a bucket must not cover the workspace";
    let cases = [
        (many(17), "must have at most 16 items"),
        (paths(&["/mnt/a", "/mnt/a"]), overlap),
        (paths(&["/mnt/a", "/mnt/a/b"]), overlap),
        (paths(&["/mnt/a/b/c", "/mnt/x", "/mnt/a"]), overlap),
        (with_buckets(&[json!({}), json!({})]), "uplicate"),
        (in_workspace("/workspace", "/workspace"), covers),
        (in_workspace("/mnt/a/work", "/mnt/a"), covers),
    ];
    trial.refuses(&cases).await;
    let full = json!({
        "prefix": "/a/b c/", "endpoint": "http://[::1]:9000/base", "region": "eu-1",
        "provider": "r2", "readOnly": true, "options": ["multipart_size=64", "use_xattr"],
        "credentialsSecretRef": {"name": "a.b", "namespace": "hutch-system"},
    });
    trial
        .takes(&[
            many(16),
            paths(&["/mnt/a", "/mnt/ab"]),
            in_workspace("/workspace", "/workspace/data"),
            in_workspace("/workspace", "/workspace2"),
            with_buckets(&[full, json!({"name": "b", "mountPath": "/b", "prefix": "/"})]),
        ])
        .await;
}
