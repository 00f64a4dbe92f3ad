//! SandboxSession resources: created by requests or applied by users, and deleted with
//! their session or sandbox.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::sandbox::manifest;
use crate::support::world::eventually;
use crate::support::{World, audit};
use hutch_api::{EnvVar, Phase, SandboxSession, SandboxSessionStatus};
use hutch_core::names;

/// A manifest of a session of that name and spec.
fn session(name: &str, spec: Value) -> String {
    let (api, kind) = ("hutch.dev/v1alpha1", "SandboxSession");
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

async fn all(world: &World) -> Vec<SandboxSession> {
    let api = world.api::<SandboxSession>();
    api.list(&ListParams::default()).await.unwrap().items
}

fn ready(session: &SandboxSession) -> Option<&Condition> {
    let status = session.status.as_ref()?;
    status
        .conditions
        .iter()
        .find(|found| found.type_ == "Ready")
}

fn is_ready(session: &SandboxSession) -> bool {
    ready(session).is_some_and(|condition| condition.status == "True")
}

/// The resource of a client's session, once it is as `wanted`.
async fn resource(
    world: &World,
    sandbox: &str,
    id: &str,
    wanted: impl Fn(&SandboxSessionStatus) -> bool,
) -> SandboxSession {
    let sandbox = names::sandbox(sandbox);
    eventually(
        &format!("a resource of session {id} as wanted"),
        async || {
            let mut found = all(world).await;
            found.retain(|session| session.spec.sandbox_name == sandbox && session.spec.id == id);
            assert!(found.len() <= 1, "one for each session: {found:#?}");
            let found = found.pop()?;
            (is_ready(&found) && found.status.as_ref().is_some_and(&wanted)).then_some(found)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_created_by_a_request_has_a_resource_that_is_deleted_with_it() {
    let world = World::new("session-made").await;
    let (_hutch, tenant) = world.with_tenant("m", &[]).await;
    let body = json!({"id": "用户/Made it", "cwd": "/usr", "env": {"A": "1"}});
    tenant.post("/session", body).await.ok();
    tenant.stdout_in("on the spot", "cd /tmp").await;
    let body = json!({"sessionId": "by env", "envVars": {"A": "1"}});
    tenant.post("/session/env", body).await.ok();
    tenant.stdout_in("用户/Made it", "true").await;
    let owner = world.sandbox_of("m").await.uid().unwrap();
    for (id, cwd) in [
        ("用户/Made it", "/usr"),
        ("on the spot", "/tmp"),
        ("by env", "/workspace"),
    ] {
        // The status is written at most once in 30 s, so that of the last command may come
        // later.
        let at = |status: &SandboxSessionStatus| {
            status.working_directory.as_deref() == Some(cwd) && status.last_activity.is_some()
        };
        let made = resource(&world, "m", id, at).await;
        assert!(made.name_any().len() <= 63, "{}", made.name_any());
        let status = made.status.as_ref().unwrap();
        assert_eq!(status.observed_generation, made.metadata.generation);
        let owners = made.owner_references();
        let owned = owners.iter().any(|reference| reference.uid == owner);
        assert!(owned, "{owners:?}");
        let name = made.name_any();
        let wide = world.kubectl(&["get", "sbs", &name, "-o", "wide"], "");
        let wide = wide.unwrap();
        for word in ["True", id, cwd] {
            assert!(wide.contains(word), "{word} in {wide}");
        }
        tenant.close(id).await.ok();
        world.gone::<SandboxSession>(&name).await;
    }
    assert_eq!(tenant.sessions().await, ["default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_is_not_written_for_every_command() {
    let world = World::new("session-quiet").await;
    let (_hutch, tenant) = world.with_tenant("q", &[]).await;
    for _ in 0..100 {
        tenant.stdout_in("s", "true").await;
    }
    tenant.stdout_in("s", "cd /tmp").await;
    let last = |status: &SandboxSessionStatus| status.working_directory.as_deref() == Some("/tmp");
    let name = resource(&world, "q", "s", last).await.name_any();
    let writes = audit::writes(world.environment, &world.namespace);
    let of_it = writes.iter().filter(|write| {
        write.name == name
            && write.resource.starts_with("sandboxsessions")
            && write.verb != "create"
    });
    let count = of_it.count();
    assert!(count <= 5, "{count} writes: {writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_applied_is_served_and_its_deletion_ends_it() {
    let world = World::new("session-apply").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    tenant.create().await.ok();
    let env = json!([{"name": "A", "value": "1 $(x)"}, {"name": "B"}]);
    let spec = json!({
        "sandboxName": names::sandbox("a"), "id": "applied", "cwd": "/usr", "env": env,
    });
    world.apply(&session("mine", spec)).unwrap();
    let mine = world.object::<SandboxSession>("mine", is_ready).await;
    let value = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(mine.spec.env, [value("A", "1 $(x)"), value("B", "")]);
    assert_eq!(tenant.sessions().await, ["applied", "default"]);
    let look = "pwd; echo \"[$A][${B-unset}]\"";
    assert_eq!(tenant.stdout_in("applied", look).await, "/usr\n[1 $(x)][]");
    tenant
        .open("applied")
        .await
        .fails(409, "Session already exists");
    let same = resource(&world, "a", "applied", |status| {
        status.last_activity.is_some()
    })
    .await;
    assert_eq!(same.uid(), mine.uid(), "no second one is made for it");

    let command = "sleep 616; touch /workspace/went-on";
    let running = tenant
        .begin_in("applied", "/workspace/begun", command)
        .await;
    let api = world.api::<SandboxSession>();
    api.delete("mine", &DeleteParams::default()).await.unwrap();
    let ended = running.await.unwrap();
    let data = &ended.body["data"];
    assert_ne!(data["result"]["success"], true, "{ended:#?}");
    assert!(data["error"].is_string(), "{ended:#?}");
    world.gone::<SandboxSession>("mine").await;
    let left = tenant.run("pgrep -x -f 'sleep 616'").await;
    assert_eq!(left["stdout"], "");
    assert_eq!(tenant.sessions().await, ["default"]);
    assert!(!tenant.exists("/workspace/went-on").await);
    let anew = tenant.stdout_in("applied", look).await;
    assert_eq!(anew, "/workspace\n[][unset]", "another session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_waits_for_its_sandbox_and_is_deleted_with_it() {
    let world = World::new("session-alone").await;
    let (_hutch, tenant) = world.with_tenant("late", &[]).await;
    let sandbox = names::sandbox("late");
    let spec = json!({"sandboxName": sandbox, "id": "early", "cwd": "/tmp"});
    world.apply(&session("early", spec)).unwrap();
    let reported = |session: &SandboxSession| ready(session).is_some();
    let early = world.object::<SandboxSession>("early", reported).await;
    let condition = ready(&early).unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "SandboxNotFound")
    );
    assert!(condition.message.contains(&sandbox), "{condition:?}");

    world.apply(&manifest(&sandbox, json!({}))).unwrap();
    world.object::<SandboxSession>("early", is_ready).await;
    assert_eq!(tenant.stdout_in("early", "pwd").await, "/tmp");
    tenant.open("another").await.ok();
    resource(&world, "late", "another", |_| true).await;
    tenant.destroy().await.ok();
    eventually("no session is left", async || {
        all(&world).await.is_empty().then_some(())
    })
    .await;

    // Without its sandbox, nothing blocks the deletion of a resource.
    let spec = json!({"sandboxName": "never", "id": "s"});
    world.apply(&session("orphan", spec)).unwrap();
    world.object::<SandboxSession>("orphan", reported).await;
    let api = world.api::<SandboxSession>();
    let params = DeleteParams::default();
    api.delete("orphan", &params).await.unwrap();
    world.gone::<SandboxSession>("orphan").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_sleeping_sandbox_keeps_its_resource() {
    let world = World::new("session-asleep").await;
    let (_hutch, tenant) = world.with_tenant("s", &[]).await;
    let sandbox = names::sandbox("s");
    tenant.stdout_in("kept", "cd /tmp; export A=1").await;
    let before = resource(&world, "s", "kept", |_| true).await;
    tenant.stdout_in("ended", "cd /tmp").await;
    let ended = resource(&world, "s", "ended", |_| true).await;
    world.suspend(&sandbox).await;
    world
        .gone::<k8s_openapi::api::core::v1::Pod>(&sandbox)
        .await;
    // A session whose resource is deleted meanwhile ends when the sandbox wakes.
    let api = world.api::<SandboxSession>();
    let params = DeleteParams::default();
    api.delete(&ended.name_any(), &params).await.unwrap();
    world.gone::<SandboxSession>(&ended.name_any()).await;
    world.resume(&sandbox).await;
    world.ready(&sandbox).await;
    assert_eq!(tenant.stdout_in("kept", "pwd; echo $A").await, "/tmp\n1");
    let after = resource(&world, "s", "kept", |_| true).await;
    assert_eq!(after.uid(), before.uid());
    eventually("the other session is gone", async || {
        (tenant.sessions().await == ["default", "kept"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_created_again_under_an_old_id_gets_a_new_resource() {
    let world = World::new("session-anew").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    tenant.open("s").await.ok();
    let first = resource(&world, "a", "s", |_| true).await;
    tenant.close("s").await.ok();
    tenant.open("s").await.ok();
    let second = eventually("another resource", async || {
        let found = all(&world).await.pop()?;
        (found.uid() != first.uid() && is_ready(&found)).then_some(found)
    })
    .await;

    let running = tenant.begin_in("s", "/workspace/begun", "sleep 617").await;
    let api = world.api::<SandboxSession>();
    let params = DeleteParams::default();
    api.delete(&second.name_any(), &params).await.unwrap();
    let ended = running.await.unwrap();
    assert_ne!(ended.body["data"]["result"]["success"], true, "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_deleted_at_any_moment_does_not_come_back() {
    let world = World::new("session-back").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    tenant.create().await.ok();
    // Hutch writes the resource 100 ms after it opened the session. These delays close
    // the session before, at and after that moment. They are the input of the test: it
    // has to pass whatever the machine makes of them.
    let delays = [0, 60, 90, 100, 110, 130, 160, 250, 400];
    let lives = delays.map(|delay| {
        let tenant = tenant.clone();
        async move {
            let id = format!("after-{delay}");
            tenant.open(&id).await.ok();
            tokio::time::sleep(Duration::from_millis(delay)).await;
            tenant.close(&id).await.ok();
        }
    });
    join_all(lives).await;
    eventually("no session is left", async || {
        all(&world).await.is_empty().then_some(())
    })
    .await;
    // The controller has finished its earlier work when a later session is open.
    tenant.open("later").await.ok();
    resource(&world, "a", "later", |_| true).await;
    assert_eq!(tenant.sessions().await, ["default", "later"]);
    assert_eq!(all(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_command_of_an_applied_session_runs_with_its_spec() {
    let world = World::new("session-first").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    tenant.create().await.ok();
    let sandbox = names::sandbox("a");
    world.suspend(&sandbox).await;
    world
        .sandbox(&sandbox, |sandbox| {
            let status = sandbox.status.as_ref();
            status.is_some_and(|status| status.phase == Phase::Suspended)
        })
        .await;
    let env = json!([{"name": "A", "value": "1"}]);
    let spec = json!({"sandboxName": sandbox, "id": "s", "cwd": "/usr", "env": env});
    world.apply(&session("mine", spec)).unwrap();
    world
        .object::<SandboxSession>("mine", |session| ready(session).is_some())
        .await;
    world.resume(&sandbox).await;
    // The request does not wait until the resource is Ready.
    assert_eq!(tenant.stdout_in("s", "pwd; echo $A").await, "/usr\n1");
    world.object::<SandboxSession>("mine", is_ready).await;
    assert_eq!(tenant.stdout_in("s", "pwd; echo $A").await, "/usr\n1");
}
