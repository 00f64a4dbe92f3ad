//! Sessions as clients create, configure, list and close them.

use kube::api::ListParams;
use reqwest::Method;
use serde_json::{Value, json};

use crate::sandbox::manifest;
use crate::support::{Tenant, World};
use hutch_core::names;

const MISSING: &str = "Missing session id. Provide session.id in body or session_id in query";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_made_in_each_way_that_clients_ask_for_it() {
    let world = World::new("session").await;
    let (_hutch, tenant) = world.with_tenant("s", &[]).await;
    let own = json!({"id": "own", "env": {"A": "1 $(x)", "B": "用\n户"}, "cwd": "/usr"});
    let data = tenant.post("/session", own.clone()).await.ok();
    assert_eq!(
        (&data["sandboxId"], &data["sessionId"], &data["created"]),
        (&json!("s"), &json!("own"), &json!(true))
    );
    for field in ["env", "cwd"] {
        assert_eq!(data["options"][field], own[field], "{data:#}");
    }
    let command = "pwd; printenv A B";
    assert_eq!(
        tenant.stdout_in("own", command).await,
        "/usr\n1 $(x)\n用\n户"
    );
    let nested = json!({"session": {"id": "nested", "env": {"A": "2"}, "cwd": "/tmp"}});
    let data = tenant.post("/session", nested).await.ok();
    assert_eq!(data["sessionId"], "nested");
    assert_eq!(
        tenant.stdout_in("nested", "pwd; printenv A").await,
        "/tmp\n2"
    );

    for body in ["", "{}", "not json"] {
        let id = format!("by query{body}");
        let query = [("session_id", id.as_str())];
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let path = format!("/session?{query}");
        let data = tenant.send(Method::POST, &path, body).await.ok();
        assert_eq!(data["sessionId"], id);
        assert_eq!(tenant.stdout_in(&id, "pwd").await, "/workspace");
    }
    for (body, id) in [
        (json!({"id": "wins"}), "wins"),
        (json!({"session": {"id": "wins, too"}}), "wins, too"),
    ] {
        let data = tenant.post("/session?session_id=loses", body).await.ok();
        assert_eq!(data["sessionId"], id, "the body wins");
    }
    let listed = tenant.sessions().await;
    assert!(!listed.contains(&"loses".to_owned()), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_sessions_are_any_text_and_belong_to_their_sandbox() {
    let world = World::new("session-ids").await;
    let (_hutch, tenant) = world.with_tenant("one", &[]).await;
    tenant.create().await.ok();
    assert_eq!(tenant.sessions().await, ["default"], "it always exists");
    let mut ids = vec!["default".to_owned()];
    for id in [
        "A",
        "a",
        "用户/1 é",
        "../../etc",
        "-rf",
        "a b\n'\"$(exit 3)`\\",
        "{\"id\":1}",
    ] {
        assert_eq!(tenant.open(id).await.ok()["sessionId"], id);
        let answer = tenant.exec_in(id, "export ID=$(pwd)-; cd /tmp").await;
        assert_eq!(answer.ok()["sessionId"], id);
        ids.push(id.to_owned());
    }
    let long = "x".repeat(512);
    tenant.open(&long).await.ok();
    ids.push(long.clone());
    for id in &ids[1..ids.len() - 1] {
        let seen = tenant.stdout_in(id, "pwd; echo $ID").await;
        assert_eq!(seen, "/tmp\n/workspace-", "{id:?}");
    }
    ids.sort();
    assert_eq!(tenant.sessions().await, ids);

    let other = tenant.about("two");
    assert_eq!(
        other.stdout_in("a", "pwd; echo [$ID]").await,
        "/workspace\n[]"
    );
    assert_eq!(other.sessions().await, ["a", "default"]);
    other.close("A").await.fails(404, "Session not found");
    for id in &ids {
        tenant.close(id).await.ok();
    }
    assert_eq!(tenant.sessions().await, ["default"]);
}

async fn nonsense_is_refused(tenant: &Tenant) {
    for options in [
        json!({"env": {"1A": "x"}}),
        json!({"env": {"A-B": "x"}}),
        json!({"env": {"A": 1}}),
        json!({"env": {"A": "\0"}}),
        json!({"env": "A=1"}),
        json!({"cwd": 7}),
        json!({"cwd": "/tmp\0"}),
    ] {
        let mut body = json!({"id": "bad"});
        body.as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        for body in [body.clone(), json!({ "session": body })] {
            tenant.post("/session", body).await.refused(400);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_session_is_refused_and_not_created() {
    let world = World::new("no-session").await;
    let (_hutch, tenant) = world.with_tenant("n", &[]).await;
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{}",
        r#"{"id": ""}"#,
        r#"{"id": null}"#,
        r#"{"session": {}}"#,
        r#"{"session": null}"#,
    ] {
        let answer = tenant.send(Method::POST, "/session", body).await;
        assert_eq!(answer.fails(400, MISSING)["sandboxId"], "n", "{body}");
    }
    nonsense_is_refused(&tenant).await;
    let long = "x".repeat(513);
    tenant.open(&long).await.refused(400);
    tenant.exec_in(&long, "true").await.refused(400);
    tenant.create().await.ok();
    assert_eq!(tenant.sessions().await, ["default"]);

    tenant.open("taken").await.ok();
    tenant.stdout_in("taken", "cd /tmp").await;
    for id in ["taken", "default"] {
        let data = tenant.open(id).await.fails(409, "Session already exists");
        let wanted = json!({
            "sandboxId": "n", "sessionId": id, "created": false, "exists": true,
            "error": "Session already exists",
        });
        assert_eq!(data, wanted);
    }
    assert_eq!(tenant.stdout_in("taken", "pwd").await, "/tmp", "as it was");
    let all = ListParams::default();
    assert_eq!(world.sandboxes().list(&all).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_deleted_is_gone_with_its_command() {
    let world = World::new("session-end").await;
    let (_hutch, tenant) = world.with_tenant("d", &[]).await;
    for id in ["own", "default"] {
        tenant.stdout_in(id, "cd /tmp; export A=1; b=2").await;
        let data = tenant.close(id).await.ok();
        assert_eq!(
            (&data["sandboxId"], &data["success"], &data["sessionId"]),
            (&json!("d"), &json!(true), &json!(id))
        );
        let time = data["timestamp"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        let anew = tenant.stdout_in(id, "pwd; echo [$A$b]").await;
        assert_eq!(anew, "/workspace\n[]", "{id} begins anew");
    }
    tenant.close("own").await.ok();
    assert_eq!(tenant.sessions().await, ["default"]);
    for id in ["own", "never made"] {
        let data = tenant.close(id).await.fails(404, "Session not found");
        let wanted = json!({
            "sandboxId": "d", "sessionId": id, "deleted": false, "exists": false,
            "error": "Session not found",
        });
        assert_eq!(data, wanted);
    }

    for id in ["busy", "default"] {
        let mark = format!("/workspace/{id}.begun");
        let command = "trap '' TERM INT; sleep 617 & sleep 617; touch /workspace/went-on";
        let answer = tenant.begin_in(id, &mark, command).await;
        tenant.close(id).await.ok();
        let ended = answer.await.unwrap();
        assert_ne!(ended.body["data"]["result"]["success"], true, "{ended:#?}");
        let error = ended.body["data"]["error"].as_str().unwrap_or_default();
        assert!(!error.is_empty(), "{ended:#?}");
        let left = tenant.run("pgrep -x -f 'sleep 617'").await;
        assert_eq!(left["stdout"], "", "the command is dead");
        assert_eq!(tenant.stdout_in(id, "echo again").await, "again");
    }
    assert!(!tenant.exists("/workspace/went-on").await);
}

async fn bad_variables_are_refused(tenant: &Tenant) {
    let set = async |body: Value| tenant.post("/session/env", body).await;
    for nothing in [
        json!({}),
        json!({"envVars": null}),
        json!({"vars": {"A": "1"}}),
    ] {
        let text = "Missing envVars. Provide envVars in JSON body";
        set(nothing).await.fails(400, text);
    }
    for nonsense in [
        json!("A=1"),
        json!(["A"]),
        json!(5),
        json!({"A": 1}),
        json!({"A": null}),
        json!({"A": "fine", "B": {}}),
    ] {
        let data = set(json!({"envVars": nonsense, "sessionId": "bad"})).await;
        let data = data.fails(400, "Invalid envVars format");
        assert_eq!(
            data["error"],
            "envVars must be a record of string to string"
        );
    }
    for name in ["", "1A", "A-B", "A B", "ü", "A=B"] {
        let body = json!({"envVars": {(name): "x"}, "sessionId": "bad"});
        set(body).await.refused(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_set_by_each_spelling_and_stay_in_their_session() {
    let world = World::new("session-env").await;
    let (_hutch, tenant) = world.with_tenant("e", &[]).await;
    let set = async |body: Value| tenant.post("/session/env", body).await;
    let hard = "1 $(exit 3) `x` \\ \"y\" 'z'\n用";
    let data = set(json!({"envVars": {"A": hard}})).await.ok();
    let wanted = json!({
        "sandboxId": "e", "sessionId": "default", "envVars": {"A": hard}, "set": true,
    });
    assert_eq!(data, wanted, "the default session, which exists");
    assert_eq!(tenant.stdout_in("default", "printenv A").await, hard);

    for (spelling, created) in [("envVars", true), ("env_vars", false), ("env", false)] {
        let body = json!({(spelling): {(spelling): spelling}, "sessionId": "new"});
        let data = set(body).await.ok();
        assert_eq!(data["sessionId"], "new");
        assert_eq!(data["envVars"], json!({(spelling): spelling}));
        assert_eq!(data["sessionCreated"] == true, created, "{data:#}");
    }
    tenant.stdout_in("new", "cd /tmp; plain=kept").await;
    set(json!({"env": {"env": "later"}, "sessionId": "new"}))
        .await
        .ok();
    let command = "printenv envVars env_vars env; pwd; echo $plain; printenv A";
    let result = tenant.run_in("new", command).await;
    let (stdout, code) = (&result["stdout"], &result["exitCode"]);
    assert_eq!(stdout, "envVars\nenv_vars\nlater\n/tmp\nkept");
    assert_eq!(code, 1, "A is the default session's");
    let mut seen = tenant.run_in("default", "printenv env").await;
    assert_eq!(seen["exitCode"].take(), 1);

    bad_variables_are_refused(&tenant).await;
    assert_eq!(tenant.sessions().await, ["default", "new"], "none was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_comes_from_image_sandbox_session_and_command() {
    let world = World::new("env-order").await;
    let (_hutch, tenant) = world.with_tenant("o", &[]).await;
    let env = |names: &[&str]| -> Value {
        let all = names.iter().map(|n| json!({"name": n, "value": "sandbox"}));
        all.collect()
    };
    let spec = json!({"env": env(&["LANG", "SESSION", "COMMAND"])});
    world.apply(&manifest(&names::sandbox("o"), spec)).unwrap();
    let command = "echo $PYTHON_VERSION $LANG $SESSION $COMMAND";
    let run = async |session: &str, env: Value| {
        let body = json!({"sessionId": session, "command": command, "env": env});
        let data = tenant.post("/session/exec", body).await.ok();
        let stdout = data["result"]["stdout"].as_str().unwrap().to_owned();
        let (image, others) = stdout.split_once(' ').unwrap();
        assert!(
            image.starts_with("3.11"),
            "what only the image has: {image}"
        );
        others.to_owned()
    };
    assert_eq!(run("fresh", json!({})).await, "sandbox sandbox sandbox");
    let session = json!({"SESSION": "session", "COMMAND": "session"});
    let body = json!({"id": "made", "env": session.clone()});
    tenant.post("/session", body).await.ok();
    let body = json!({"envVars": session, "sessionId": "set"});
    tenant.post("/session/env", body).await.ok();
    tenant
        .stdout_in("exported", "export SESSION=session COMMAND=session")
        .await;
    for id in ["made", "set", "exported"] {
        let with = run(id, json!({"COMMAND": "command"})).await;
        assert_eq!(with, "sandbox session command", "{id}");
        let without = run(id, json!({})).await;
        assert_eq!(without, "sandbox session session", "{id}");
    }
}
