//! Sessions across several pods of their sandbox: what they keep, what keeps a sandbox
//! awake, and their end.

use futures::future::join_all;
use futures::join;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::support::world::{eventually, http};
use crate::support::{Tenant, World};
use hutch_api::{Phase, Sandbox, SandboxSession};
use hutch_core::names;

const BUILD: &str = "mkdir -p 'a dir' && cd 'a dir' && export E='e  $x' && plain=p && \
                     f() { echo \"f of $1\"; } && array=(a 'b c' $'d\\ne')";
const LOOK: &str = "pwd; printenv E; echo $plain; f 1; echo ${#array[@]} \"${array[1]}\"";
const SEEN: &str = "/workspace/a dir\ne  $x\np\nf of 1\n3 b c";

async fn set(tenant: &Tenant, sleep_after: &str) {
    let body = json!({"options": {"sleepAfter": sleep_after}});
    tenant.post("/lifecycle", body).await.ok();
}

async fn asleep(world: &World, name: &str) {
    let asleep = |sandbox: &Sandbox| {
        let status = sandbox.status.as_ref();
        status.is_some_and(|status| status.phase == Phase::Suspended && status.pod_name.is_none())
    };
    world.sandbox(name, asleep).await;
    world.gone::<Pod>(name).await;
}

async fn pod_uid(world: &World, name: &str) -> String {
    let sandbox = world.ready(name).await;
    sandbox.status.unwrap().pod_uid.unwrap()
}

async fn all_there(tenant: &Tenant, when: &str) {
    for session in ["default", "own"] {
        let seen = tenant.stdout_in(session, LOOK).await;
        assert_eq!(seen, SEEN, "{session} {when}");
    }
    assert_eq!(tenant.sessions().await, ["default", "own"], "{when}");
    let query = [("path", "file"), ("sessionId", "own")];
    let data = tenant.get("/files/read", &query).await.ok();
    assert_eq!(data["content"], "data", "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_sleep_the_loss_of_its_pod_and_of_the_facade() {
    let world = World::new("outlives").await;
    let (hutch, tenant) = world.with_tenant("o", &[]).await;
    let name = names::sandbox("o");
    set(&tenant, "1s").await;
    for session in ["default", "own"] {
        tenant.stdout_in(session, BUILD).await;
    }
    let body = json!({"path": "file", "content": "data", "sessionId": "own"});
    tenant.post("/files/write", body).await.ok();
    asleep(&world, &name).await;
    all_there(&tenant, "after sleep").await;

    set(&tenant, "1h").await;
    let before = pod_uid(&world, &name).await;
    let params = DeleteParams::default();
    world.pods().delete(&name, &params).await.unwrap();
    world.next_pod(&name, &before).await;
    all_there(&tenant, "after the loss of the pod").await;

    // A command runs whose client has gone.
    let wait = "until [ -e /workspace/go ]; do sleep 0.02; done; export LATE=1";
    let body = json!({"sessionId": "late", "command": format!("touch /workspace/begun; {wait}")});
    let request = http()
        .post(tenant.address("/session/exec"))
        .header("x-sandbox-id", "o")
        .body(body.to_string());
    let request = tokio::spawn(request.send());
    tenant.until_exists("/workspace/begun").await;
    hutch.kill();
    assert!(request.await.unwrap().is_err(), "the client sees the loss");
    let (_hutch, tenant) = world.with_tenant("o", &[]).await;
    tenant.write("/workspace/go", "").await.ok();
    assert_eq!(tenant.stdout_in("late", "echo $LATE").await, "1");
    tenant.close("late").await.ok();
    all_there(&tenant, "after the loss of the facade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_every_kind_wake_a_sandbox_and_share_the_wake() {
    let world = World::new("wake").await;
    let history = world.history();
    let (_hutch, tenant) = world.with_tenant("w", &[]).await;
    let name = names::sandbox("w");
    set(&tenant, "2s").await;
    let uid = world.sandbox_of("w").await.uid().unwrap();
    tenant.write("file", "data").await.ok();
    tenant.stdout_in("s", "A=1").await;
    asleep(&world, &name).await;

    let (exec, first, second, text, there, written, listed, opened) = join!(
        tenant.stdout("cat file"),
        tenant.stdout_in("s", "echo $A"),
        tenant.stdout_in("default", "cat file"),
        tenant.text("file"),
        tenant.exists("file"),
        tenant.write("other", "x"),
        tenant.get("/api/session/list", &[]),
        tenant.open("new"),
    );
    assert_eq!((&*exec, &*second, &*text), ("data", "data", "data"));
    assert_eq!((&*first, there), ("1", true));
    for answer in [written, listed, opened] {
        answer.ok();
    }
    set(&tenant, "1h").await;
    world.ready(&name).await;
    let pod = world.pods().get(&name).await.unwrap();
    assert_eq!(history.check(&pod).await[&uid], 2, "one wake for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_alone_wakes_its_sandbox() {
    let world = World::new("wakes").await;
    let (_hutch, tenant) = world.with_tenant("w", &[]).await;
    let name = names::sandbox("w");
    set(&tenant, "1s").await;
    tenant.write("file", "data").await.ok();
    asleep(&world, &name).await;
    assert_eq!(tenant.text("file").await, "data");
    asleep(&world, &name).await;
    let body = json!({"envVars": {"A": "1"}});
    tenant.post("/session/env", body).await.ok();
    asleep(&world, &name).await;
    assert_eq!(tenant.sessions().await, ["default"]);
    assert_eq!(tenant.stdout_in("default", "echo $A").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_session_command_and_a_waiting_request_keep_a_sandbox_awake() {
    let world = World::new("awake").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    let name = names::sandbox("a");
    set(&tenant, "2s").await;
    let first = pod_uid(&world, &name).await;
    // Several times the idle timeout.
    let running = tenant
        .begin_in("s", "/workspace/begun", "sleep 6; echo done")
        .await;
    let waiting = tenant.stdout_in("s", "sleep 1; echo next").await;
    assert_eq!(waiting, "next", "a request in the session's line");
    assert_eq!(running.await.unwrap().ok()["result"]["stdout"], "done");
    assert_eq!(pod_uid(&world, &name).await, first);
    let background = "(sleep 5; echo done > /workspace/background) & disown -a";
    tenant.stdout_in("s", background).await;
    asleep(&world, &name).await;
    assert_eq!(tenant.text("/workspace/background").await, "done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_sandbox_ends_its_commands_and_leaves_nothing() {
    let world = World::new("destroy").await;
    let (_hutch, tenant) = world.with_tenant("d", &[]).await;
    tenant.create().await.ok();
    tenant.stdout_in("idle", "export A=1").await;
    let running = tenant
        .begin_in("busy", "/workspace/begun", "sleep 618; echo done")
        .await;
    let ends = join_all((0..3).map(|_| tenant.destroy())).await;
    for end in ends {
        assert_eq!(end.ok(), json!({"sandboxId": "d", "destroyed": true}));
    }
    let ended = running.await.unwrap();
    let data = &ended.body["data"];
    assert_ne!(data["result"]["success"], true, "{ended:#?}");
    let error = data["error"].as_str().unwrap_or_default();
    assert!(!error.is_empty(), "{ended:#?}");
    assert_eq!(data["sessionId"], "busy", "{ended:#?}");

    let all = ListParams::default();
    assert!(world.sandboxes().list(&all).await.unwrap().items.is_empty());
    assert!(world.pods().list(&all).await.unwrap().items.is_empty());
    eventually("neither claims nor sessions are left", async || {
        let sessions = world.api::<SandboxSession>().list(&all).await.unwrap();
        let claims = world.claim_names().await;
        (claims.is_empty() && sessions.items.is_empty()).then_some(())
    })
    .await;
    let anew = tenant.stdout_in("idle", "pwd; echo [$A]; ls -A").await;
    assert_eq!(anew, "/workspace\n[]", "a new sandbox knows nothing");
    assert_eq!(tenant.sessions().await, ["default", "idle"]);
}
