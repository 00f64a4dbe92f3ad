//! The tenant contract at its edges: headers, methods, bodies, ids, limits.

use std::collections::HashSet;
use std::io::{Read, Write};

use futures::future::join_all;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use reqwest::Method;
use serde_json::json;

use crate::access_limits::lines;
use crate::support::{Tenant, World, audit};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_sandbox_id_is_refused_on_every_route() {
    let world = World::new("no-id").await;
    let hutch = world.hutch("run", &[]).await;
    let http = reqwest::Client::new();
    for (method, path) in [
        (Method::POST, "/exec"),
        (Method::GET, "/exec"),
        (Method::POST, "/lifecycle"),
        (Method::DELETE, "/lifecycle"),
        (Method::GET, "/anything/else"),
    ] {
        for id in [None, Some(""), Some("  ")] {
            let mut request = http.request(method.clone(), format!("{}{path}", hutch.url().await));
            if let Some(id) = id {
                request = request.header("x-sandbox-id", id);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 400, "{method} {path}");
            let body: serde_json::Value = response.json().await.unwrap();
            let text = "Missing sandbox id. Provide x-sandbox-id header";
            assert_eq!(
                body,
                json!({"data": {"error": text}, "message": text, "code": 400})
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_has_an_answer_and_makes_no_sandbox() {
    let world = World::new("nonsense").await;
    let (_hutch, tenant) = world.with_tenant("sb-1", &[]).await;
    let missing = "Missing command. Provide command in JSON body";
    for body in [
        "",
        "{",
        "not json",
        "[]",
        "null",
        "5",
        "{}",
        r#"{"command": ""}"#,
        r#"{"command": " \n"}"#,
        r#"{"command": 5}"#,
        r#"{"command": null}"#,
    ] {
        let data = tenant
            .send(Method::POST, "/exec", body)
            .await
            .fails(400, missing);
        assert_eq!(data["sandboxId"], "sb-1");
    }
    for (method, path, allowed) in [
        (Method::GET, "/exec", "POST"),
        (Method::DELETE, "/exec", "POST"),
        (Method::GET, "/lifecycle", "POST, DELETE"),
        (Method::PUT, "/lifecycle", "POST, DELETE"),
    ] {
        let data = tenant
            .send(method, path, "")
            .await
            .fails(405, "Method Not Allowed");
        assert!(data["error"].as_str().unwrap().contains(allowed), "{data}");
    }
    for options in [
        json!({"timeout": 0}),
        json!({"timeout": -5}),
        json!({"timeout": "soon"}),
        json!({"env": {"1A": "x"}}),
        json!({"env": {"A-B": "x"}}),
        json!({"env": {"": "x"}}),
        json!({"env": {"A": 1}}),
        json!({"env": "A=1"}),
        json!({"env": {"A": "\0"}}),
        json!({"cwd": "/tmp\0"}),
        json!({"cwd": 7}),
    ] {
        let mut body = json!({"command": "true", "options": options.clone()});
        assert_eq!(
            tenant.post("/exec", body.clone()).await.status,
            400,
            "{body}"
        );
        body = json!({"command": "true"});
        body.as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        assert_eq!(
            tenant.post("/exec", body.clone()).await.status,
            400,
            "{body}"
        );
    }
    for options in [
        json!({"sleepAfter": "soon"}),
        json!({"sleepAfter": -1}),
        json!({"keepAlive": "yes"}),
        json!({"normalizeId": 1}),
    ] {
        let answer = tenant.post("/lifecycle", json!({"options": options})).await;
        assert_eq!(
            (answer.status, &answer.body["data"]["created"]),
            (400, &json!(false))
        );
    }
    let other = tenant.send(Method::GET, "/some/where", "").await;
    assert_eq!(
        other.body,
        json!({"data": {"ok": true, "sandboxId": "sb-1"}, "message": "ok", "code": 200})
    );
    assert!(
        world
            .sandboxes()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_can_be_read_in_two_ways_is_refused_and_has_its_line() {
    let world = World::new("two-ways").await;
    let arguments = ["--audit", "--log-format", "json"];
    let hutch = world.hutch("run", &arguments).await;
    let address = hutch
        .url()
        .await
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    for head in [
        "POST /exec HTTP/1.1\r\nHost: localhost\r\nx-sandbox-id: a\r\nx-sandbox-id: b\r\nContent-Length: 0\r\n\r\n",
        "POST /exec HTTP/1.1\r\nHost: localhost\r\nHost: b\r\nx-sandbox-id: a\r\nContent-Length: 0\r\n\r\n",
        "POST /exec HTTP/1.1\r\nHost: localhost\r\nx-sandbox-id: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let address = address.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        });
        assert_eq!(answer.await.unwrap(), "HTTP/1.1 400", "{head}");
    }
    let lines = lines(&hutch);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for line in lines {
        assert_eq!(
            (&line["route"], &line["status"]),
            (&json!("/exec"), &json!(400))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_look_alike_are_distinct_sandboxes() {
    let world = World::new("ids").await;
    let (_hutch, tenant) = world.with_tenant("", &[]).await;
    let long = "x".repeat(300);
    let ids = ["A", "a", "a.b", "用户/1", "-x", &long];
    let mut made = HashSet::new();
    for id in ids {
        let tenant = tenant.about(id);
        let data = tenant.create().await.ok();
        assert_eq!(data["sandboxId"], id);
        tenant.run(&format!("printf %s '{id}' > mark")).await;
        let sandbox = world.sandbox_of(id).await;
        assert_eq!(sandbox.annotations()["hutch.dev/sandbox-id"], id);
        made.insert(sandbox.name_any());
    }
    assert_eq!(made.len(), ids.len());
    for id in ids {
        assert_eq!(tenant.about(id).stdout("cat mark").await, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_creates_of_one_id_make_one_sandbox_and_one_pod() {
    let world = World::new("fifty").await;
    let (_hutch, tenant) = world.with_tenant("one", &[]).await;
    let answers = join_all((0..50).map(|_| tenant.create())).await;
    for answer in answers {
        let data = answer.ok();
        assert_eq!(data["created"], true);
        assert_eq!(data["initialized"], true);
        assert_eq!(data["init"]["stdout"], "ready");
    }
    let all = ListParams::default();
    assert_eq!(world.sandboxes().list(&all).await.unwrap().items.len(), 1);
    assert_eq!(world.pods().list(&all).await.unwrap().items.len(), 1);
    let writes = audit::writes(world.environment, &world.namespace);
    let pods = writes
        .iter()
        .filter(|w| w.verb == "create" && w.resource == "pods");
    assert_eq!(pods.count(), 1, "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_takes_at_most_six_writes_to_create() {
    let world = World::new("six").await;
    let (_hutch, tenant) = world.with_tenant("six", &[]).await;
    tenant.create().await.ok();
    tenant.stdout("true").await;
    let name = world.sandbox_of("six").await.name_any();
    world.ready(&name).await;
    let writes = audit::writes(world.environment, &world.namespace);
    let of_ours = |write: &&audit::Write| {
        write.resource != "leases" && !write.resource.starts_with("pods/exec")
    };
    let writes: Vec<_> = writes.iter().filter(of_ours).collect();
    assert!((4..=6).contains(&writes.len()), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_is_made_again_and_ended_again_without_harm() {
    let world = World::new("lifecycle").await;
    let (_hutch, tenant) = world.with_tenant("sb", &[]).await;
    let options = json!({"sleepAfter": "10m", "keepAlive": true, "containerTimeouts": {"x": 1}});
    let data = tenant
        .post("/lifecycle", json!({"options": options}))
        .await
        .ok();
    assert_eq!(data["options"], options);
    assert_eq!(data["init"]["command"], "echo ready");
    let first = world.sandbox_of("sb").await;
    assert_eq!(first.spec.lifecycle.idle_timeout.as_deref(), Some("10m"));
    assert!(first.spec.lifecycle.keep_alive);

    let data = tenant
        .post("/lifecycle", json!({"options": null}))
        .await
        .ok();
    assert_eq!(data["options"], json!(null));
    tenant
        .post("/lifecycle", json!({"options": {"sleepAfter": 90}}))
        .await
        .ok();
    let same = world.sandbox_of("sb").await;
    assert_eq!(same.uid(), first.uid());
    assert_eq!(same.spec.lifecycle.idle_timeout.as_deref(), Some("90s"));
    assert!(same.spec.lifecycle.keep_alive, "what was not named stays");

    tenant.run("echo data > file").await;
    assert_eq!(
        tenant.destroy().await.ok(),
        json!({"sandboxId": "sb", "destroyed": true})
    );
    assert_eq!(tenant.destroy().await.ok()["destroyed"], true);
    let all = ListParams::default();
    assert!(world.sandboxes().list(&all).await.unwrap().items.is_empty());
    assert!(
        world.pods().list(&all).await.unwrap().items.is_empty(),
        "destroyed means gone"
    );

    tenant.create().await.ok();
    assert_ne!(world.sandbox_of("sb").await.uid(), first.uid());
    assert_eq!(
        tenant.run("cat file").await["exitCode"],
        1,
        "a new sandbox is empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_normalized_id_means_every_spelling_of_itself() {
    let world = World::new("any-case").await;
    let (_hutch, tenant) = world.with_tenant("Mixed", &[]).await;
    let data = tenant
        .post("/lifecycle", json!({"options": {"normalizeId": true}}))
        .await
        .ok();
    assert_eq!(data["sandboxId"], "Mixed", "the header's value, unchanged");
    tenant.run("echo here > mark").await;
    for spelling in ["mixed", "MIXED", "Mixed"] {
        assert_eq!(tenant.about(spelling).stdout("cat mark").await, "here");
    }
    assert_eq!(
        world
            .sandboxes()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sandbox_past_the_limit_is_refused_with_a_reason() {
    let world = World::new("limit").await;
    let (_hutch, tenant) = world.with_tenant("1", &["--max-sandboxes", "2"]).await;
    let others = ["1", "2", "3", "4"].map(|id| tenant.about(id));
    let answers = join_all(others.iter().map(Tenant::create)).await;
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(made, 2);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        let text = "the limit of 2 sandboxes is reached: delete one that is not needed any more";
        let data = answer.fails(500, text);
        assert_eq!(
            (&data["created"], &data["initialized"]),
            (&json!(false), &json!(false))
        );
    }
    assert_eq!(
        world
            .sandboxes()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_named_without_a_storm_of_pods() {
    let world = World::new("no-image").await;
    let image = "registry.invalid/nothing:1";
    let (_hutch, tenant) = world.with_tenant("x", &["--default-image", image]).await;
    let answer = tenant.create().await;
    assert_eq!(answer.status, 500);
    let text = answer.body["data"]["error"].as_str().unwrap();
    assert!(
        text.contains(image) && text.contains("ImagePullFailed"),
        "{text}"
    );
    let sandbox = world.sandbox_of("x").await;
    let status = sandbox.status.clone().unwrap();
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "ImagePullFailed")
    );
    assert!(ready.message.contains(image), "{}", ready.message);
    let pods = world
        .pods()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(pods.len(), 1);

    // A person mends the image: the pod that never ran need not be kept.
    let patch = json!({"metadata": {"annotations": {"hutch.dev/restart": "now"}}, "spec": {"image": "python:3.11-slim"}});
    let api = world.sandboxes();
    api.patch(
        &sandbox.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .unwrap();
    tenant.create().await.ok();
    let writes = audit::writes(world.environment, &world.namespace);
    let pods = writes
        .iter()
        .filter(|w| w.verb == "create" && w.resource == "pods");
    assert_eq!(pods.count(), 2, "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_probes_answer_without_a_sandbox() {
    let world = World::new("health").await;
    let (hutch, tenant) = world.with_tenant("h", &[]).await;
    let health = |url: String| async move {
        reqwest::get(format!("{url}/health"))
            .await
            .unwrap()
            .json::<serde_json::Value>()
            .await
            .unwrap()
    };
    assert_eq!(health(hutch.url().await).await["active_sessions"], 0);
    tenant.create().await.ok();
    let body = health(hutch.url().await).await;
    assert_eq!(
        (&body["status"], &body["active_sessions"]),
        (&json!("ok"), &json!(1))
    );
    let ready = "ok\ndatabase: none is configured\n";
    for (path, text) in [("healthz", "ok\n"), ("readyz", ready)] {
        let answer = reqwest::get(format!("{}/{path}", hutch.ops().await))
            .await
            .unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                answer.text().await.unwrap().as_str()
            ),
            (200, text)
        );
    }
    let metrics = hutch.metrics().await;
    assert!(
        metrics.ends_with("# EOF\n") && !metrics.contains(&world.namespace),
        "{metrics}"
    );
}
