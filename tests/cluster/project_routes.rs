//! The project API at its edges: refusals, methods, bodies, and the list of all
//! conversations.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::{Tenant, World};

/// Every route that takes a body, with a body that it accepts.
fn posts() -> Vec<(&'static str, Value)> {
    let file = json!({"session_id": "a", "file_path": "f"});
    let with = |more: Value| {
        let mut all = file.clone();
        let all_fields = all.as_object_mut().unwrap();
        all_fields.extend(more.as_object().unwrap().clone());
        all
    };
    let domain =
        json!({"container_id": "x", "subdomain": "s", "frontend_port": 5173, "domain": "d.org"});
    vec![
        ("/execute", json!({"session_id": "a", "command": "true"})),
        ("/diagnostic", json!({"session_id": "a"})),
        ("/lsp/diagnostics", json!({"session_id": "a"})),
        ("/file/read", file.clone()),
        ("/file/write", with(json!({"content": "c"}))),
        ("/file/list", json!({"session_id": "a"})),
        ("/file/grep", json!({"session_id": "a", "pattern": "p"})),
        ("/file/glob", json!({"session_id": "a", "pattern": "p"})),
        (
            "/file/edit",
            with(json!({"old_string": "o", "new_string": "n"})),
        ),
        ("/projects/create", json!({"project_name": "p"})),
        ("/projects/delete", json!({"container_id": "x"})),
        ("/projects/configure-domain", domain),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_or_name_that_is_too_long_is_refused_and_creates_no_sandbox() {
    let world = World::new("long").await;
    let (_hutch, backend) = world.with_backend("a", &[]).await;
    let long = "x".repeat(4097);
    for (path, body) in posts() {
        for field in ["session_id", "project_name", "container_id"] {
            let mut body = body.clone();
            if body.get(field).is_some() {
                body[field] = long.clone().into();
                let text = format!("{field} is longer than 4096 bytes");
                refused(&backend, path, body.to_string(), Some(&text)).await;
            }
        }
    }
    for field in ["session_id", "project_id"] {
        let reply = backend.get("/file/tree", &[(field, &long)]).await;
        reply.fails(400);
    }
    backend.delete(&format!("/session/{long}")).await.fails(400);
    assert_eq!(world.count().await, 0);
}

/// The texts of the contract. Any other 400 has some text.
fn text_of(path: &str, field: &str) -> Option<&'static str> {
    match (path, field) {
        ("/execute", "session_id" | "command") => Some("session_id and command are required"),
        ("/diagnostic" | "/lsp/diagnostics", "session_id") => Some("session_id is required"),
        ("/file/grep", "pattern") => Some("pattern is required"),
        ("/projects/create", "project_name") => Some("project_name is required"),
        ("/projects/delete", "container_id") => Some("container_id is required"),
        _ => None,
    }
}

async fn refused(backend: &Backend, path: &str, body: String, text: Option<&str>) {
    let what = format!("{path} {body}");
    let reply = backend.send(Method::POST, path, body).await;
    assert_eq!(reply.status, 400, "{what}: {:#}", reply.body);
    let error = reply.fails(400);
    if let Some(text) = text {
        assert_eq!(error, text, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_missing_or_of_another_type_is_refused_by_name_and_creates_no_sandbox() {
    let world = World::new("fields").await;
    let (_hutch, backend) = world.with_backend("a", &[]).await;
    for (path, body) in posts() {
        for field in body.as_object().unwrap().keys() {
            let mut wrong = vec![json!(null), json!(["x"]), json!({"x": 1})];
            if field != "frontend_port" {
                wrong.push(json!(5));
            }
            // Writing nothing, replacing with nothing and overwriting are no errors.
            if !["content", "old_string", "new_string"].contains(&field.as_str()) {
                wrong.push(json!(""));
            }
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(field);
            let mut bodies = vec![without];
            bodies.extend(wrong.into_iter().map(|value| {
                let mut body = body.clone();
                body[field] = value;
                body
            }));
            for body in bodies {
                refused(&backend, path, body.to_string(), text_of(path, field)).await;
            }
        }
    }
    assert_eq!(world.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_object_counts_as_empty() {
    let world = World::new("bodies").await;
    let (_hutch, backend) = world.with_backend("a", &[]).await;
    for (path, body) in posts() {
        let first = match path {
            "/projects/create" => "project_name",
            "/projects/delete" | "/projects/configure-domain" => "container_id",
            "/file/grep" => "",
            _ => "session_id",
        };
        let cut = body.to_string();
        let cut = &cut[..cut.len() - 1];
        for text in ["", "{", "not json", "[]", "null", "5", "\"x\"", "{}", cut] {
            refused(&backend, path, text.to_owned(), text_of(path, first)).await;
        }
        let reply = backend
            .send(Method::POST, path, vec![b'{', 0xff, b'}'])
            .await;
        reply.fails(400);
    }
    for query in [
        "",
        "?",
        "?session_id=",
        "?project_id=",
        "?path=%2Ftmp",
        "?%ff=%ff",
    ] {
        let path = format!("/file/tree{query}");
        let reply = backend.send(Method::GET, &path, "").await;
        assert_eq!(reply.status, 400, "{path}: {:#}", reply.body);
        reply.fails(400);
    }
    // The route needs no field of its body.
    for text in ["", "{", "null"] {
        let reply = backend.send(Method::POST, "/sessions/cleanup", text).await;
        assert_eq!(reply.ok()["message"], "Cleaned up 0 sessions");
    }
    assert_eq!(world.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_value_is_refused_and_creates_no_sandbox() {
    let world = World::new("values").await;
    let (_hutch, backend) = world.with_backend("a", &[]).await;
    let mut wrong = Vec::new();
    for path in [
        "/file/read",
        "/file/write",
        "/file/edit",
        "/diagnostic",
        "/lsp/diagnostics",
    ] {
        wrong.push((path, "file_path", json!("a\0b")));
    }
    for path in ["/file/list", "/file/grep", "/file/glob"] {
        wrong.push((path, "path", json!("/tmp\0/x")));
    }
    for path in ["/file/read", "/file/write", "/file/edit"] {
        wrong.push((path, "file_path", json!("x/".repeat(5000))));
    }
    for timeout in [json!(-1), json!("soon"), json!([1]), json!(1e300)] {
        wrong.push(("/execute", "timeout", timeout));
    }
    for port in [json!(0), json!(-1), json!(65536), json!("x"), json!(1.5)] {
        wrong.push(("/projects/configure-domain", "frontend_port", port));
    }
    for language in ["cobol", "Python; true", "$(id)", "../python"] {
        wrong.push(("/projects/create", "backend_language", json!(language)));
    }
    wrong.push(("/execute", "working_dir", json!("/tmp\0")));
    wrong.push(("/file/edit", "replace_all", json!("yes")));
    let good = posts();
    for (path, field, value) in wrong {
        let mut body = good.iter().find(|good| good.0 == path).unwrap().1.clone();
        body[field] = value;
        refused(&backend, path, body.to_string(), None).await;
    }
    let query = [("session_id", "a"), ("path", "/tmp\0")];
    backend.get("/file/tree", &query).await.fails(400);
    assert_eq!(world.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_for_its_own_method_only() {
    let world = World::new("methods").await;
    let (_hutch, backend) = world.with_backend("a", &[]).await;
    let mut routes: Vec<_> = posts()
        .into_iter()
        .map(|(path, _)| (path, "POST"))
        .collect();
    routes.extend([
        ("/health", "GET"),
        ("/sessions", "GET"),
        ("/sessions/cleanup", "POST"),
        ("/session/a", "DELETE"),
        ("/file/tree?session_id=a", "GET"),
    ]);
    for (path, own) in routes {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ] {
            if method.as_str() == own {
                continue;
            }
            let reply = backend.send(method.clone(), path, "{}").await;
            assert_eq!(reply.status, 405, "{method} {path}: {:#}", reply.body);
            let text = reply.fails(405);
            assert!(text.contains(own), "{method} {path}: {text}");
        }
    }
    assert_eq!(world.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_counted_listed_and_cleaned_up() {
    let world = World::new("cleanup").await;
    let (_hutch, backend) = world.with_backend("a", &[]).await;
    let tenant = Tenant::new(&backend.address(""), "a");
    assert_eq!(backend.get("/health", &[]).await.ok()["active_sessions"], 0);
    assert_eq!(backend.sessions().await, [""; 0]);
    let ids = ["a", "b", "用户/1 %41"];
    for id in ids {
        backend.about(id).stdout("echo here > mark").await;
    }
    tenant.create().await.ok();
    assert_eq!(backend.get("/health", &[]).await.ok()["active_sessions"], 4);
    assert_eq!(backend.sessions().await, ids);
    let body = backend.post("/sessions/cleanup", json!({})).await.ok();
    assert_eq!(body["message"], "Cleaned up 3 sessions");
    assert_eq!(backend.sessions().await, [""; 0]);
    assert_eq!(world.count().await, 1, "the tenant's stays");
    let body = backend.post("/sessions/cleanup", json!({})).await.ok();
    assert_eq!(body["message"], "Cleaned up 0 sessions");
    assert_eq!(
        backend.run("cat mark").await["exit_code"],
        1,
        "it begins anew"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_of_any_id_is_removed_once_and_no_other_sandbox_is() {
    let world = World::new("remove").await;
    let (_hutch, backend) = world.with_backend("t", &[]).await;
    let tenant = Tenant::new(&backend.address(""), "t");
    tenant.stdout("echo theirs > mark").await;
    assert_eq!(backend.end().await, "Session t not found");
    assert_eq!(tenant.stdout("cat mark").await, "theirs");

    let ids = ["a b/c%d?e#f", "%2F", "ü'\"$(id)\\"];
    for id in ids {
        backend.about(id).stdout("true").await;
    }
    for id in ids {
        let backend = backend.about(id);
        assert!(backend.sessions().await.contains(&id.to_owned()), "{id}");
        assert_eq!(backend.end().await, format!("Session {id} removed"));
        assert!(!backend.sessions().await.contains(&id.to_owned()), "{id}");
        assert_eq!(backend.end().await, format!("Session {id} not found"));
    }
    assert_eq!(world.count().await, 1, "the tenant's");
    let name = world.sandboxes().list(&Default::default()).await.unwrap();
    let name = name.items[0].metadata.name.clone().unwrap();
    assert_eq!(
        backend.about(&name).end().await,
        format!("Session {name} not found")
    );
    assert_eq!(tenant.stdout("cat mark").await, "theirs");
}
