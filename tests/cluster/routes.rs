//! Rules for every route of sessions and files.

use kube::api::ListParams;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::world::http;

const ROUTES: [(&str, &[Method]); 12] = [
    ("/session", &[Method::POST, Method::DELETE]),
    ("/session/exec", &[Method::POST]),
    ("/session/env", &[Method::POST]),
    ("/files/write", &[Method::POST]),
    ("/files/read", &[Method::GET, Method::POST]),
    ("/files/mkdir", &[Method::POST]),
    ("/files/rename", &[Method::POST]),
    ("/files/move", &[Method::POST]),
    ("/files/delete", &[Method::DELETE, Method::POST]),
    ("/files/exists", &[Method::GET, Method::POST]),
    ("/api/session/list", &[Method::GET]),
    ("/lifecycle", &[Method::POST, Method::DELETE]),
];
const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_checks_the_method_and_the_sandbox_id() {
    let world = World::new("routes").await;
    let (_hutch, tenant) = world.with_tenant("r", &[]).await;
    let http = http();
    for (path, allowed) in ROUTES {
        for method in METHODS {
            let anonymous = http.request(method.clone(), tenant.address(path));
            let response = anonymous.send().await.unwrap();
            assert_eq!(response.status(), 400, "{method} {path} without an id");
            let text = "Missing sandbox id. Provide x-sandbox-id header";
            assert_eq!(
                response.json::<Value>().await.unwrap(),
                json!({"data": {"error": text}, "message": text, "code": 400}),
                "{method} {path}"
            );
            if allowed.contains(&method) {
                continue;
            }
            let answer = tenant.send(method.clone(), path, "").await;
            let data = answer.fails(405, "Method Not Allowed");
            let error = data["error"].as_str().unwrap();
            for right in allowed {
                assert!(error.contains(right.as_str()), "{method} {path}: {error}");
            }
        }
    }
    // None of these requests has created a sandbox.
    let all = ListParams::default();
    assert!(world.sandboxes().list(&all).await.unwrap().items.is_empty());
}

/// Requests without a required value, and the text of the error.
fn incomplete() -> Vec<(&'static str, Value, &'static str)> {
    let session = "Missing session id. Provide session_id in query or sessionId/session_id in body";
    vec![
        (
            "/session",
            json!({}),
            "Missing session id. Provide session.id in body or session_id in query",
        ),
        ("/session/exec", json!({"command": "true"}), session),
        (
            "/session/exec",
            json!({"sessionId": "s", "command": " "}),
            "Missing command. Provide command in JSON body",
        ),
        (
            "/session/env",
            json!({}),
            "Missing envVars. Provide envVars in JSON body",
        ),
        ("/files/write", json!({"content": "x"}), "Missing path"),
        ("/files/write", json!({"path": "f"}), "Missing content"),
        ("/files/read", json!({"path": "\t "}), "Missing path"),
        ("/files/mkdir", json!({"recursive": true}), "Missing path"),
        ("/files/rename", json!({"newPath": "b"}), "Missing oldPath"),
        (
            "/files/rename",
            json!({"oldPath": "a", "newPath": " "}),
            "Missing newPath",
        ),
        ("/files/delete", json!({"path": null}), "Missing path"),
        ("/files/exists", json!({"path": ""}), "Missing path"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_required_value_is_refused_and_creates_no_sandbox() {
    let world = World::new("missing").await;
    let (_hutch, tenant) = world.with_tenant("m", &[]).await;
    for (path, body, text) in incomplete() {
        let data = tenant.post(path, body).await.fails(400, text);
        assert_eq!(data["sandboxId"], "m", "{path}");
    }
    // A body that is not JSON counts as an empty object.
    for (path, text) in [
        ("/session/exec", None),
        (
            "/session/env",
            Some("Missing envVars. Provide envVars in JSON body"),
        ),
        ("/files/write", Some("Missing path")),
        ("/files/move", None),
    ] {
        for body in ["", "{", "null", "[1]", "not json"] {
            let data = tenant.send(Method::POST, path, body).await.refused(400);
            let reported = text.is_none_or(|text| data["error"] == text);
            assert!(reported, "{path} with {body:?}: {data:#}");
        }
    }
    for (path, method) in [
        ("/files/read", Method::GET),
        ("/files/exists", Method::GET),
        ("/files/delete", Method::DELETE),
    ] {
        for query in ["", "?path=", "?path=%20"] {
            let path = format!("{path}{query}");
            let answer = tenant.send(method.clone(), &path, "").await;
            answer.fails(400, "Missing path");
        }
    }
    for body in [json!({"sourcePath": "a"}), json!({"destPath": "b"})] {
        tenant.post("/files/move", body).await.refused(400);
    }
    let text = "Missing session id. Provide session_id query param";
    tenant.delete("/session", &[]).await.fails(400, text);
    let all = ListParams::default();
    assert!(world.sandboxes().list(&all).await.unwrap().items.is_empty());
}
