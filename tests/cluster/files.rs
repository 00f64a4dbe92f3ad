//! The file routes: their answers, where paths lead, and refusals.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Tenant, World};

const NOT_FOUND: &str = "File not found";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_and_read_as_text_and_as_base64() {
    let world = World::new("files").await;
    let (_hutch, tenant) = world.with_tenant("f", &[]).await;
    let text = "eins\r\n  zwei\t用户 🦀\n\"'\\\0\u{1}\n\n";
    let body = json!({"path": "  new/deep/text.txt ", "content": text});
    let data = tenant.post("/files/write", body).await.ok();
    let path = "new/deep/text.txt";
    let wanted = json!({"sandboxId": "f", "path": path, "written": true, "encoding": "utf-8"});
    assert_eq!(data, wanted, "the path is trimmed, parents are made");
    let wanted = json!({"sandboxId": "f", "path": path, "content": text, "encoding": "utf-8"});
    let read = async |query: &[(&str, &str)]| tenant.get("/files/read", query).await.ok();
    assert_eq!(read(&[("path", path)]).await, wanted);
    let absolute = "/workspace/new/deep/text.txt";
    assert_eq!(read(&[("path", absolute)]).await["content"], text);
    assert_eq!(read(&[("path", path), ("encoding", "utf-8")]).await, wanted);
    let by_post = tenant.post("/files/read", json!({ "path": path })).await;
    assert_eq!(by_post.ok(), wanted);
    let coded = BASE64_STANDARD.encode(text);
    let wanted = json!({"sandboxId": "f", "path": path, "content": coded, "encoding": "base64"});
    assert_eq!(
        read(&[("path", path), ("encoding", "base64")]).await,
        wanted
    );
    let body = json!({"path": path, "encoding": "base64"});
    assert_eq!(tenant.post("/files/read", body).await.ok(), wanted);

    let bytes = b"\x00\xff\xfe\n\r\x80abc\x1b";
    let coded = BASE64_STANDARD.encode(bytes);
    let body = json!({"path": "bytes", "content": coded, "encoding": "base64"});
    let data = tenant.post("/files/write", body).await.ok();
    assert_eq!(data["encoding"], "base64");
    let hex = tenant.stdout("od -An -v -tx1 bytes | tr -d ' \\n'").await;
    assert_eq!(hex, "00fffe0a0d806162631b");
    let wanted = json!({"sandboxId": "f", "path": "bytes", "content": coded, "encoding": "base64"});
    assert_eq!(read(&[("path", "bytes")]).await, wanted, "it is no text");

    for (content, encoding) in [("", "utf-8"), ("", "base64"), (" \n", "utf-8")] {
        let body = json!({"path": path, "content": content, "encoding": encoding});
        tenant.post("/files/write", body).await.ok();
        assert_eq!(tenant.text(path).await, content, "whole, and nothing more");
    }
    assert_eq!(tenant.stdout("ls -A new/deep").await, "text.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_and_names_are_created_changed_and_deleted() {
    let world = World::new("names").await;
    let (_hutch, tenant) = world.with_tenant("n", &[]).await;
    let post = async |route: &str, body: Value| tenant.post(route, body).await;
    let made = |path: &str, recursive: bool| json!({"sandboxId": "n", "path": path, "created": true, "recursive": recursive});
    let data = post("/files/mkdir", json!({"path": "d"})).await.ok();
    assert_eq!(data, made("d", false));
    let again = post("/files/mkdir", json!({"path": "d", "recursive": false})).await;
    again.refused(409);
    post("/files/mkdir", json!({"path": "x/y"}))
        .await
        .refused(404);
    for _ in 0..2 {
        let body = json!({"path": "x/y", "recursive": true});
        let data = post("/files/mkdir", body).await.ok();
        assert_eq!(data, made("x/y", true));
    }
    tenant.write("d/a", "1").await.ok();
    post("/files/mkdir", json!({"path": "d/a"}))
        .await
        .refused(409);

    let body = json!({"oldPath": "d/a", "newPath": "d/b"});
    let wanted = json!({"sandboxId": "n", "oldPath": "d/a", "newPath": "d/b", "renamed": true});
    assert_eq!(post("/files/rename", body).await.ok(), wanted);
    // Another file system than the workspace's.
    let body = json!({"sourcePath": "d/b", "destPath": "/tmp/c"});
    let wanted = json!({
        "sandboxId": "n", "sourcePath": "d/b", "destPath": "/tmp/c", "moved": true,
    });
    assert_eq!(post("/files/move", body).await.ok(), wanted);
    let left = tenant.stdout("ls -A d; cat /tmp/c; ls -d x/y").await;
    assert_eq!(left, "1x/y");
    let body = json!({"sourcePath": "x", "destPath": "d/x"});
    post("/files/move", body).await.ok();
    assert!(tenant.exists("d/x/y").await, "folders, too");
    is_found_and_deleted(&tenant).await;
}

async fn is_found_and_deleted(tenant: &Tenant) {
    let post = async |route: &str, body: Value| tenant.post(route, body).await;
    for (path, there) in [("d", true), ("/tmp/c", true), ("d/a", false), ("x", false)] {
        let wanted = json!({"sandboxId": "n", "path": path, "exists": there});
        let data = tenant.get("/files/exists", &[("path", path)]).await.ok();
        assert_eq!(data, wanted);
        let by_post = post("/files/exists", json!({ "path": path })).await;
        assert_eq!(by_post.ok(), wanted);
    }

    tenant.write("e", "2").await.ok();
    let data = tenant.delete("/files/delete", &[("path", "/tmp/c")]).await;
    let wanted = json!({"sandboxId": "n", "path": "/tmp/c", "deleted": true});
    assert_eq!(data.ok(), wanted);
    let data = post("/files/delete", json!({"path": "e"})).await.ok();
    assert_eq!(
        (&data["path"], &data["deleted"]),
        (&json!("e"), &json!(true))
    );
    assert!(!tenant.exists("/tmp/c").await && !tenant.exists("e").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_not_found() {
    let world = World::new("not-found").await;
    let (_hutch, tenant) = world.with_tenant("n", &[]).await;
    tenant.write("file", "x").await.ok();
    for path in ["none", "/no/where", "-用户"] {
        let query = [("path", path)];
        let body = json!({ "path": path });
        let wanted = json!({"sandboxId": "n", "path": path, "exists": false, "error": NOT_FOUND});
        for answer in [
            tenant.get("/files/read", &query).await,
            tenant.post("/files/read", body.clone()).await,
        ] {
            assert_eq!(answer.fails(404, NOT_FOUND), wanted);
        }
        let mut wanted = wanted;
        wanted["deleted"] = false.into();
        for answer in [
            tenant.delete("/files/delete", &query).await,
            tenant.post("/files/delete", body).await,
        ] {
            assert_eq!(answer.fails(404, NOT_FOUND), wanted);
        }
        let body = json!({"oldPath": path, "newPath": "new"});
        let answer = tenant.post("/files/rename", body).await;
        answer.fails(404, NOT_FOUND);
        let body = json!({"sourcePath": path, "destPath": "new"});
        tenant.post("/files/move", body).await.refused(404);
    }
    // If a file is in the way: a clear error, in each case.
    let below = [("path", "file/below")];
    let answer = tenant.get("/files/read", &below).await;
    assert!([400, 404].contains(&answer.status), "{answer:#?}");
    assert!(!tenant.exists("file/below").await);
    assert_eq!(tenant.stdout("ls -A").await, "file");
}

/// Calls every route that takes a path with this one.
async fn refused_everywhere(tenant: &Tenant, path: &str) {
    for (route, body) in [
        ("/files/write", json!({"path": path, "content": "x"})),
        ("/files/read", json!({ "path": path })),
        ("/files/mkdir", json!({"path": path, "recursive": true})),
        ("/files/rename", json!({"oldPath": path, "newPath": "new"})),
        (
            "/files/rename",
            json!({"oldPath": "other", "newPath": path}),
        ),
        (
            "/files/move",
            json!({"sourcePath": path, "destPath": "new"}),
        ),
        (
            "/files/move",
            json!({"sourcePath": "other", "destPath": path}),
        ),
        ("/files/delete", json!({ "path": path })),
        ("/files/exists", json!({ "path": path })),
    ] {
        let answer = tenant.post(route, body).await;
        assert_eq!(answer.status, 400, "{route}: {answer:#?}");
        answer.refused(400);
    }
    let query = [("path", path)];
    for route in ["/files/read", "/files/exists"] {
        tenant.get(route, &query).await.refused(400);
    }
    tenant.delete("/files/delete", &query).await.refused(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_and_invalid_paths_are_refused_and_nothing_hangs() {
    let world = World::new("refused").await;
    let (_hutch, tenant) = world.with_tenant("r", &[]).await;
    tenant
        .stdout("mkdir folder; mkfifo pipe; echo x > other")
        .await;
    for path in [
        "folder",
        "/",
        ".",
        "folder/",
        "pipe",
        "/dev/zero",
        "/dev/null",
    ] {
        tenant.write(path, "x").await.refused(400);
        let query = [("path", path)];
        tenant.get("/files/read", &query).await.refused(400);
    }
    for path in ["folder", "folder/"] {
        let query = [("path", path)];
        tenant.delete("/files/delete", &query).await.refused(400);
        assert!(tenant.exists(path).await);
    }
    let long = format!("/workspace/{}", "a/".repeat(2100));
    for path in ["a\0b", long.as_str()] {
        refused_everywhere(&tenant, path).await;
    }
    let name = "x".repeat(256);
    let answer = tenant.write(&name, "x").await;
    assert_eq!(answer.status, 400, "longer than any name: {answer:#?}");
    for (content, encoding) in [
        (json!("%%%"), json!("base64")),
        (json!("YQ=a"), json!("base64")),
        (json!("x"), json!("latin-1")),
        (json!(5), json!("utf-8")),
        (json!(["x"]), json!(null)),
    ] {
        let body = json!({"path": "bad", "content": content, "encoding": encoding});
        tenant.post("/files/write", body).await.refused(400);
    }
    assert!(!tenant.exists("bad").await);
    assert_eq!(tenant.text("other").await, "x\n");
    assert_eq!(tenant.stdout("ls").await, "folder\nother\npipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_past_the_cap_is_not_read() {
    let world = World::new("cap").await;
    let (_hutch, tenant) = world.with_tenant("c", &[]).await;
    let cap = 32 << 20;
    let make = format!("truncate -s {cap} full; truncate -s 33M big");
    tenant.stdout(&make).await;
    let answer = tenant.get("/files/read", &[("path", "big")]).await;
    answer.refused(413);
    let query = [("path", "full"), ("encoding", "base64")];
    let data = tenant.get("/files/read", &query).await.ok();
    let content = data["content"].as_str().unwrap();
    assert_eq!(content.len(), (cap as usize).div_ceil(3) * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_paths_begin_where_their_session_is() {
    let world = World::new("relative").await;
    let (_hutch, tenant) = world.with_tenant("r", &[]).await;
    tenant.stdout_in("s", "mkdir -p sub && cd sub").await;
    let post = async |route: &str, mut body: Value| {
        body["sessionId"] = "s".into();
        tenant.post(route, body).await.ok()
    };
    post("/files/write", json!({"path": "a", "content": "in sub"})).await;
    post("/files/mkdir", json!({"path": "d"})).await;
    assert_eq!(tenant.text("/workspace/sub/a").await, "in sub");
    assert_eq!(post("/files/read", json!({"path": "a"})).await["path"], "a");
    let at = |path| [("path", path), ("sessionId", "s")];
    let data = tenant.get("/files/read", &at("./d/../a")).await.ok();
    assert_eq!(data["content"], "in sub");
    assert_eq!(
        tenant.get("/files/exists", &at("d")).await.ok()["exists"],
        true
    );
    post("/files/rename", json!({"oldPath": "a", "newPath": "d/b"})).await;
    post(
        "/files/move",
        json!({"sourcePath": "d/b", "destPath": "../up"}),
    )
    .await;
    assert_eq!(tenant.text("/workspace/up").await, "in sub");
    post("/files/write", json!({"path": "gone", "content": ""})).await;
    tenant.delete("/files/delete", &at("gone")).await.ok();
    assert_eq!(tenant.stdout("ls sub").await, "d");

    // Requests without a session mean `default`, as do those that name it.
    assert!(tenant.exists("sub").await && !tenant.exists("d").await);
    tenant.stdout_in("default", "cd sub/d").await;
    tenant.write("here", "default's").await.ok();
    let query = [("path", "here"), ("sessionId", "default")];
    let data = tenant.get("/files/read", &query).await.ok();
    assert_eq!(data["content"], "default's");
    assert_eq!(tenant.text("/workspace/sub/d/here").await, "default's");
    let data = tenant.get("/files/read", &at("d/here")).await.ok();
    assert_eq!(data["content"], "default's", "s is where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_work_as_for_any_program_of_the_sandbox() {
    let world = World::new("links").await;
    let (_hutch, tenant) = world.with_tenant("l", &[]).await;
    let links = "mkdir real; echo old > real/file
        ln -s real/file link; ln -s /workspace/real folder; ln -s nowhere dangling
        ln -s two one; ln -s one two; ln -s ../../../../../../workspace/real up";
    tenant.stdout(links).await;
    assert_eq!(tenant.text("link").await, "old\n");
    tenant.write("link", "new").await.ok();
    assert_eq!(tenant.text("real/file").await, "new", "written through it");
    assert_eq!(tenant.stdout("readlink link").await, "real/file");
    tenant.write("folder/more", "m").await.ok();
    assert_eq!(tenant.text("up/more").await, "m");
    for link in ["folder", "up"] {
        let query = [("path", link)];
        tenant.get("/files/read", &query).await.refused(400);
    }
    assert!(tenant.exists("folder").await && !tenant.exists("dangling").await);
    let query = [("path", "dangling")];
    tenant
        .get("/files/read", &query)
        .await
        .fails(404, NOT_FOUND);
    for circle in ["one", "two/x"] {
        let answer = tenant.get("/files/read", &[("path", circle)]).await;
        assert!((400..500).contains(&answer.status), "{answer:#?}");
        let answer = tenant.write(circle, "x").await;
        assert!((400..500).contains(&answer.status), "{answer:#?}");
    }
    let body = json!({"oldPath": "link", "newPath": "moved"});
    tenant.post("/files/rename", body).await.ok();
    assert_eq!(tenant.stdout("readlink moved").await, "real/file");
    for name in ["moved", "dangling", "folder"] {
        let query = [("path", name)];
        tenant.delete("/files/delete", &query).await.ok();
    }
    assert_eq!(
        tenant.stdout("ls; ls real").await,
        "one\nreal\ntwo\nup\nfile\nmore"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_command_of_the_session_holds_no_file_route() {
    let world = World::new("unblocked").await;
    let (_hutch, tenant) = world.with_tenant("u", &[]).await;
    tenant.create().await.ok();
    let wait = "until [ -e go ]; do sleep 0.02; done";
    let mut answers = Vec::new();
    for session in ["default", "s"] {
        let mark = format!("/workspace/{session}.begun");
        answers.push(tenant.begin_in(session, &mark, wait).await);
        let named = async |method: Method, route: &str, body: Value| {
            let mut body = body;
            body["sessionId"] = session.into();
            let answer = tenant.send(method, route, body.to_string());
            let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
            answer.expect("it does not wait for the command").ok();
        };
        let post = Method::POST;
        let a = json!({"path": "d/a", "content": "x"});
        named(post.clone(), "/files/write", a.clone()).await;
        named(post.clone(), "/files/read", a.clone()).await;
        named(post.clone(), "/files/exists", a).await;
        let b = json!({"oldPath": "d/a", "newPath": "d/b"});
        named(post.clone(), "/files/rename", b).await;
        let c = json!({"sourcePath": "d/b", "destPath": "d/c"});
        named(post.clone(), "/files/move", c).await;
        named(post.clone(), "/files/delete", json!({"path": "d/c"})).await;
        let e = json!({"path": format!("d/{session}")});
        named(post, "/files/mkdir", e).await;
    }
    assert!(answers.iter().all(|answer| !answer.is_finished()));
    tenant.write("/workspace/go", "").await.ok();
    for answer in answers {
        answer.await.unwrap().ok();
    }
}
