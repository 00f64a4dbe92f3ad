//! The tenant contract at its edges: headers, methods and bodies; health and probes.

use std::io::{Read, Write};

use kube::api::ListParams;
use reqwest::Method;
use serde_json::json;

use crate::access_limits::lines;
use crate::support::world::http;
use crate::support::{Tenant, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_sandbox_id_is_refused_on_every_route() {
    let world = World::new("no-id").await;
    let hutch = world.hutch("run", &[]).await;
    let http = http();
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
async fn an_invalid_request_has_an_answer_and_creates_no_sandbox() {
    let world = World::new("nonsense").await;
    let (_hutch, tenant) = world.with_tenant("sb-1", &[]).await;
    bodies_without_a_command(&tenant).await;
    wrong_methods(&tenant).await;
    invalid_options_of_a_command(&tenant).await;
    invalid_options_of_a_sandbox(&tenant).await;
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

async fn bodies_without_a_command(tenant: &Tenant) {
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
}

async fn wrong_methods(tenant: &Tenant) {
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
}

async fn invalid_options_of_a_command(tenant: &Tenant) {
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
}

async fn invalid_options_of_a_sandbox(tenant: &Tenant) {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_head_is_refused_and_logged() {
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
async fn health_and_probes_answer_without_a_sandbox() {
    let world = World::new("health").await;
    let (hutch, tenant) = world.with_tenant("h", &[]).await;
    let health = |url: String| async move {
        http()
            .get(format!("{url}/health"))
            .send()
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
        let probe = http().get(format!("{}/{path}", hutch.ops().await));
        let answer = probe.send().await.unwrap();
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
