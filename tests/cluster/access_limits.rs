//! The limits of a key, and the audit lines of requests.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::access::{get, id, knock, knock_with, secret, with_user};
use crate::support::backend::Backend;
use crate::support::hutch::KEYED;
use crate::support::world::{WAIT_TIMEOUT, eventually};
use crate::support::{Hutch, Tenant, World};

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_a_key_may_send_are_refused_for_a_while() {
    let world = World::new("rate").await;
    let hutch = world.hutch("facade", &[KEYED]).await;
    let url = hutch.url().await;
    let key = world
        .live_key(&url, "acme", &world.namespace, &["--rate", "3"])
        .await;
    let other = world.live_key(&url, "acme", &world.namespace, &[]).await;
    let bearer = format!("Bearer {key}");
    let mut refused = None;
    for _ in 0..20 {
        let answer = knock(&url, &[("authorization", &bearer)]).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("20 requests are more than 3 a second");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.body["code"], 429);
    assert_eq!(refused.body["message"], "too many requests with this key");
    let wait = refused.headers["retry-after"].to_str().unwrap();
    assert_eq!(knock_with(&url, &other).await, 200);
    tokio::time::sleep(Duration::from_secs(wait.parse().unwrap())).await;
    assert_eq!(knock_with(&url, &key).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_at_once_than_a_key_may_have_are_refused_until_one_ends() {
    let world = World::new("at-once").await;
    let hutch = world.hutch("run", &[KEYED]).await;
    let url = hutch.url().await;
    let key = world
        .live_key(&url, "acme", &world.namespace, &["--concurrency", "2"])
        .await;
    let tenant = Tenant::new(&with_user(&url, &key), "box");
    tenant.create().await.ok();
    let wait = "until [ -e /tmp/go ]; do sleep 0.05; done";
    let one = tenant.begin_in("one", "/tmp/one", wait).await;
    let two = tokio::spawn({
        let tenant = tenant.clone();
        // Another request may hold the place at that moment.
        async move {
            let placed = async { while tenant.exec_in("two", wait).await.status == 429 {} };
            let placed = tokio::time::timeout(WAIT_TIMEOUT, placed).await;
            placed.expect("the second command has a place");
        }
    });
    eventually("both places are taken", async || {
        (knock_with(&url, &key).await == 429).then_some(())
    })
    .await;
    // A client that disconnects frees its place.
    two.abort();
    eventually("a place is free", async || {
        (knock_with(&url, &key).await == 200).then_some(())
    })
    .await;
    tenant.run("touch /tmp/go").await;
    one.await.unwrap().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_ends() {
    let world = World::new("deadline").await;
    let arguments = [KEYED, "--request-timeout", "5s"];
    let hutch = world.hutch("run", &arguments).await;
    let url = hutch.url().await;
    let key = world.live_key_to_all(&url).await;
    let tenant = Tenant::new(&with_user(&url, &key), "box");
    eventually("the sandbox is there", async || {
        (tenant.create().await.status == 200).then_some(())
    })
    .await;
    let answer = tenant.post("/exec", json!({"command": "sleep 20"})).await;
    answer.fails(504, "the request was not done within 5s");
    assert_eq!(tenant.stdout("echo fine").await, "fine");
    let backend = Backend::new(&with_user(&url, &key), "talk");
    // On a busy machine the start of a sandbox takes longer than the request timeout.
    eventually("code runs", async || {
        let reply = backend.call("/execute", json!({"command": "true"})).await;
        (reply.status == 200).then_some(())
    })
    .await;
    let reply = backend
        .call("/execute", json!({"command": "sleep 20"}))
        .await;
    assert_eq!(reply.fails(504), "the request was not done within 5s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new("large").await;
    let hutch = world.hutch("facade", &[KEYED]).await;
    let url = hutch.url().await;
    let key = world.live_key(&url, "acme", &world.namespace, &[]).await;
    let tenant = Tenant::new(&with_user(&url, &key), "box");
    let body = |size: usize| " ".repeat(size);
    let send = async |size| tenant.send(Method::POST, "/files/write", body(size)).await;
    let refused = send((48 << 20) + 1).await;
    refused.fails(413, "The request body is too large");
    send(48 << 20).await.fails(400, "Missing path");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_counts_against_the_budgets_of_its_namespace_and_of_the_process() {
    let (world, other) = tokio::join!(World::new("room"), World::new("room-else"));
    let arguments = [KEYED, "--max-in-flight", "48Mi"];
    let hutch = world.hutch("facade", &arguments).await;
    let url = hutch.url().await;
    let (mine, theirs) = (&world.namespace, &other.namespace);
    let key = world.live_key(&url, "acme", mine, &[]).await;
    let also = world.live_key(&url, "acme", mine, &[]).await;
    let elsewhere = world.live_key(&url, "other", theirs, &[]).await;
    let write = async |key: &str| {
        let tenant = Tenant::new(&with_user(&url, key), "box");
        tenant.post("/files/write", json!({})).await
    };
    write(&also).await.fails(400, "Missing path");

    // The length is unknown, so the body may be as large as any.
    let head = format!(
        "POST /exec HTTP/1.1\r\nhost: a\r\nx-sandbox-id: box\r\n\
         authorization: Bearer {key}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let address = url.strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    let refused = eventually("the room is taken", async || {
        let answer = write(&also).await;
        (answer.status != 400).then_some(answer)
    })
    .await;
    refused.fails(429, "too many bytes at once in this namespace");
    let busy = write(&elsewhere).await;
    busy.fails(503, "too many bytes are being worked on, try again");

    // The command waits for its sandbox, which no controller creates.
    let body = json!({"command": "true"}).to_string();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    slow.write_all(chunks.as_bytes()).await.unwrap();
    eventually("there is room again", async || {
        (write(&also).await.status == 400).then_some(())
    })
    .await;
    let unanswered = slow.try_read(&mut [0]).unwrap_err();
    assert_eq!(unanswered.kind(), std::io::ErrorKind::WouldBlock);
}

/// The audit lines so far.
pub fn lines(hutch: &Hutch) -> Vec<Value> {
    let log = hutch.log();
    let all = log.lines().map(serde_json::from_str::<Value>);
    let all = all.map(|line| line.expect("every line is JSON"));
    all.filter(|line| line["target"] == "audit").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_an_audit_line_without_content_or_key() {
    let world = World::new("audit").await;
    let scopes = ["--scope", "tenant,project"];
    let key = world.key("acme", &world.namespace, &scopes);
    let arguments = [KEYED, "--log-format", "json"];
    let hutch = world.hutch("run", &arguments).await;
    let url = hutch.url().await;
    let wrong = format!(
        "hutch_{}_{}",
        id(&key),
        "5ec3e7".repeat(11).get(..64).unwrap()
    );
    let tenant = Tenant::new(&with_user(&url, &key), "box\u{e9}");
    tenant.write("file-name", "c0ntent").await.ok();
    assert_eq!(tenant.stdout("echo c0ntent | tr c C").await, "C0ntent");
    let backend = Backend::new(&with_user(&url, &key), "talk\nINFO forged");
    // The header of the other contract does not change the subject of the request.
    let elsewhere = [("x-sandbox-id", "innocent")];
    let bearer = format!("Bearer {key}");
    let headers = [&[("authorization", bearer.as_str())][..], &elsewhere].concat();
    get(&format!("{url}/sessions"), &headers).await;
    backend.end().await;
    assert_eq!(knock_with(&url, &wrong).await, 401);
    get(&format!("{url}/health"), &[]).await;

    let log = hutch.log();
    for never in [
        "c0ntent",
        "C0ntent",
        "file-name",
        secret(&key),
        secret(&wrong),
    ] {
        assert!(!log.contains(never), "{never}");
    }
    let lines = lines(&hutch);
    assert_eq!(lines.len(), 6, "{lines:#?}");
    let common = |line: &Value| {
        assert_eq!(line["tenant"], "acme");
        assert_eq!(line["key"], id(&key));
        assert_eq!(line["namespace"], world.namespace);
        assert!(line["ms"].as_f64().unwrap() > 0.0);
    };
    let write = &lines[0];
    common(write);
    let reported = [
        &write["method"],
        &write["route"],
        &write["sandbox"],
        &write["status"],
    ];
    assert_eq!(
        reported,
        [
            &json!("POST"),
            &json!("/files/write"),
            &json!("boxé"),
            &json!(200)
        ]
    );
    let body = json!({"path": "file-name", "content": "c0ntent"}).to_string();
    assert_eq!(write["bytes_in"], body.len());
    assert!(write["bytes_out"].as_u64().unwrap() > 50);
    lines[..4].iter().for_each(common);
    assert_eq!(lines[2].get("sandbox"), None);
    assert_eq!(lines[3]["route"], "/session/{id}");
    assert_eq!(lines[3]["sandbox"], "talk\nINFO forged");
    assert_eq!(
        (&lines[4]["status"], lines[4].get("tenant")),
        (&json!(401), None)
    );
    assert_eq!(lines[5]["route"], "/health");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_audit_lines_are_optional() {
    let world = World::new("unaudited").await;
    for (more, wanted) in [(&[][..], 0), (&["--audit"][..], 1)] {
        let arguments = [&["--log-format", "json"], more].concat();
        let hutch = world.hutch("facade", &arguments).await;
        get(&format!("{}/sessions", hutch.url().await), &[]).await;
        assert_eq!(lines(&hutch).len(), wanted);
    }
}
