//! Hutch writes nothing while nothing changes: neither to the API server nor to the
//! database, in whatever state its objects rest.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::projector::{SYNCED, row, spec};
use crate::sandbox::manifest;
use crate::support::postgres::Postgres;
use crate::support::world::eventually;
use crate::support::{World, audit};
use hutch_api::{Phase, Sandbox, SandboxSession, SandboxSessionSpec, labels};
use hutch_core::names;

/// The longest time that the controller may write after a change.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Longer than every interval at which Hutch checks something by itself.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// Brings sandboxes into every state that lasts.
async fn settle(world: &World, tenant: &crate::support::Tenant) {
    let sleepy = json!({"options": {"sleepAfter": "2s"}});
    tenant.post("/lifecycle", sleepy).await.ok();
    for (name, spec) in [
        (
            "ready",
            json!({"lifecycle": {"idleTimeout": "1h", "ttl": "2h"}}),
        ),
        ("suspended", json!({"suspended": true})),
        (
            "ephemeral",
            json!({"workspace": {"persistence": "Ephemeral", "size": "64Mi"}}),
        ),
        ("image", json!({"image": "registry.invalid/x:1"})),
        ("grown", json!({"workspace": {"size": "1Gi"}})),
        ("changed", json!({})),
        (
            "node",
            json!({"securityProfile": "Root", "nodeSelector": {"no": "such"}}),
        ),
    ] {
        world.apply(&manifest(name, spec)).unwrap();
    }
    for name in ["ready", "ephemeral", "grown", "changed"] {
        world.ready(name).await;
    }
    let size = json!({"spec": {"workspace": {"size": "2Gi"}}});
    world.patch("grown", size).await;
    let env = json!({"spec": {"env": [{"name": "A", "value": "1"}]}});
    world.patch("changed", env).await;
    let spec = SandboxSessionSpec {
        sandbox_name: "ready".into(),
        id: "s".into(),
        ..Default::default()
    };
    let session = SandboxSession::new("session", spec);
    let sessions = world.api::<SandboxSession>();
    sessions
        .create(&PostParams::default(), &session)
        .await
        .unwrap();

    let reported = async |name: &str, kind: &str, reason: &str| {
        world.condition(name, kind, reason).await;
    };
    reported("grown", "WorkspaceReady", "ResizeRefused").await;
    reported("changed", "RestartPending", "SpecChanged").await;
    reported("suspended", "Ready", "Suspended").await;
    reported("image", "Ready", "ImagePullFailed").await;
    reported("node", "Ready", "UserNamespacesUnsupported").await;
    let asleep = |s: &Sandbox| {
        let status = s.status.as_ref();
        status.is_some_and(|s| s.phase == Phase::Suspended && s.pod_name.is_none())
    };
    world.sandbox(&names::sandbox("sleepy"), asleep).await;
    world
        .object::<SandboxSession>("session", |s| {
            s.status.is_some() && !s.owner_references().is_empty()
        })
        .await;
    eventually("every claim is bound", async || {
        let claims = world.claims().list(&ListParams::default()).await.unwrap();
        let bound = |c: &k8s_openapi::api::core::v1::PersistentVolumeClaim| {
            c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
        };
        claims.iter().all(bound).then_some(())
    })
    .await;
}

/// Brings projects into every state that lasts, with a crash of their database on the
/// way.
async fn settle_projects(world: &World, postgres: &mut Postgres) {
    for project in ["run", "sleep", "set"] {
        postgres.project(project).await;
    }
    let theirs = json!({"metadata": {"name": "theirs"}, "spec": {
        "nodeSelector": {"no": "such"}, "containers": [{"name": "c", "image": "python:3.11-slim"}]}});
    let theirs: Pod = serde_json::from_value(theirs).unwrap();
    let pods = world.pods();
    pods.create(&PostParams::default(), &theirs).await.unwrap();
    let set = "UPDATE projects SET container_name";
    postgres
        .sql(&format!("{set} = 'theirs' WHERE id = 'set'"))
        .await;
    for (name, project) in [
        ("p-run", "run"),
        ("p-sleep", "sleep"),
        ("p-set", "set"),
        ("p-lost", "lost"),
    ] {
        world.create(name, spec(project)).await;
    }
    row(postgres, "run", Some("p-run")).await;
    row(postgres, "sleep", Some("p-sleep")).await;
    let uid = pods.get("p-run").await.unwrap().uid().unwrap();
    postgres.down("QUIT");
    let now = DeleteParams::default().grace_period(0);
    pods.delete("p-run", &now).await.unwrap();
    world.suspend("p-sleep").await;
    world.next_pod("p-run", &uid).await;
    world.gone::<Pod>("p-sleep").await;
    postgres.up(&[]).await;
    row(postgres, "sleep", None).await;
    row(postgres, "run", Some("p-run")).await;
    for (name, reason) in [
        ("p-run", "Synced"),
        ("p-sleep", "Synced"),
        ("p-set", "SetByOthers"),
        ("p-lost", "ProjectNotFound"),
    ] {
        world.condition(name, SYNCED, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_is_settled_nothing_is_written_for_a_minute() {
    let (world, mut postgres) = (World::new("quiet").await, Postgres::start().await);
    let flags = postgres.flags(postgres.port);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let (_hutch, tenant) = world.with_tenant("sleepy", &flags).await;
    settle(&world, &tenant).await;
    settle_projects(&world, &mut postgres).await;
    let writes = || {
        let mut writes = audit::writes(world.environment, &world.namespace);
        writes.retain(|write| write.resource != "leases");
        writes
    };
    // Two claims are about time, so no signal can replace the sleeps: all writes are made
    // within `SETTLE_TIME` after the last change, and then none for `QUIET_TIME`.
    tokio::time::sleep(SETTLE_TIME).await;
    let before = writes().len();
    let rows = postgres.writes().await;
    tokio::time::sleep(QUIET_TIME).await;
    let after = writes();
    assert_eq!(after.len(), before, "{:#?}", &after[before..]);
    assert_eq!(postgres.writes().await, rows);
    let labelled = world
        .pods()
        .list(&ListParams::default().labels(labels::SANDBOX))
        .await;
    assert_eq!(labelled.unwrap().items.len(), 8);
}
