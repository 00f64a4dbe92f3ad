//! The chart's objects are all that clients need, and no role has a right that is not used.
//! An installed Hutch does everything here once, and the API server's audit log is compared
//! with the roles.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::{python, sandbox::manifest};
use crate::support::backend::Backend;
use crate::support::chart::Release;
use crate::support::rights::{Right, given, used};
use crate::support::world::eventually;
use crate::support::{S3, Tenant, World};
use hutch_api::{Phase, Sandbox, SandboxSession, annotations, labels};
use hutch_core::{conditions, names};

const COMPONENTS: [&str; 3] = ["controller", "facade", "node"];

/// Rights that do not appear in the log, or whose use this test cannot cause, and what they
/// are for.
const UNSEEN: [(&str, &str, &str, &str); 14] = [
    // Checked in addition to `get` for a WebSocket since Kubernetes 1.35; the log has
    // `get`.
    ("controller", "", "pods/exec", "create"),
    ("facade", "", "pods/exec", "create"),
    // Checked in addition to `patch` if an apply creates the object; the log has `patch`.
    ("facade", "", "services", "create"),
    ("facade", "networking.k8s.io", "ingresses", "create"),
    // Required by the admission plugin OwnerReferencesPermissionEnforcement.
    ("controller", "hutch.dev", "sandboxes/finalizers", "update"),
    ("facade", "hutch.dev", "sandboxes/finalizers", "update"),
    // An event that is repeated within minutes is counted on the first.
    ("controller", "events.k8s.io", "events", "patch"),
    ("node", "events.k8s.io", "events", "patch"),
    // To find out if a pod whose node does not answer is lost, and its project with it.
    ("controller", "", "nodes", "get"),
    ("controller", "", "pods", "get"),
    // The resource of a session that ended before it was bound, or in a crash.
    ("controller", "hutch.dev", "sandboxsessions", "get"),
    ("controller", "hutch.dev", "sandboxsessions", "delete"),
    // A volume is claimed again after a user has deleted its claim.
    ("controller", "", "persistentvolumes", "patch"),
    // A volume whose mounter died is mounted again.
    ("node", "", "persistentvolumes", "get"),
];

fn is(phase: Phase) -> impl Fn(&Sandbox) -> bool {
    move |sandbox| {
        sandbox
            .status
            .as_ref()
            .is_some_and(|status| status.phase == phase)
    }
}

/// Applied sandboxes: every step of their lives.
async fn live(world: &World) {
    let spec = json!({"workspace": {"size": "1Gi"}});
    world.apply(&manifest("long", spec)).unwrap();
    let short = json!({"lifecycle": {"ttl": "5s"}, "workspace": {"persistence": "Ephemeral", "size": "64Mi"}});
    world.apply(&manifest("short", short)).unwrap();
    world.ready("long").await;
    let session = json!({"apiVersion": "hutch.dev/v1alpha1", "kind": "SandboxSession",
        "metadata": {"name": "session"}, "spec": {"sandboxName": "long", "id": "s"}});
    world.apply(&session.to_string()).unwrap();
    world
        .object::<SandboxSession>("session", |session| {
            session.status.is_some() && !session.owner_references().is_empty()
        })
        .await;
    world
        .patch("long", json!({"spec": {"project": {"id": "p"}}}))
        .await;
    world
        .patch("long", json!({"spec": {"workspace": {"size": "2Gi"}}}))
        .await;
    world
        .condition("long", "WorkspaceReady", "ResizeRefused")
        .await;
    world.suspend("long").await;
    world.sandbox("long", is(Phase::Suspended)).await;
    world.gone::<Pod>("long").await;
    world.gone::<Sandbox>("short").await;
    world.delete("long").await;
}

/// Buckets as live mounts and as volumes of a Restricted sandbox, one replaced by another.
async fn buckets(world: &World, release: &Release, url: &str, s3: &S3) {
    let tenant = Tenant::new(url, "with-bucket");
    let body = json!({"bucket": "data", "mountPath": "/mnt/data", "options": {
        "endpoint": s3.url(), "provider": "other",
        "credentials": {"accessKeyId": s3.access_key, "secretAccessKey": s3.secret_key}}});
    tenant.create().await.ok();
    tenant.post("/mount-bucket", body).await.ok();
    tenant.stdout("echo through > /mnt/data/file && sync").await;
    tenant
        .post("/unmount-bucket", json!({"mountPath": "/mnt/data"}))
        .await
        .ok();
    assert_eq!(s3.get("data", "file").as_deref(), Some("through\n"));
    tenant.destroy().await.ok();

    world.keys(s3).await;
    let declared = |prefix: &str| {
        manifest(
            "declared",
            json!({
                "securityProfile": "Restricted",
                "workspace": {"persistence": "Ephemeral", "size": "64Mi"},
                "buckets": [{"name": "data", "bucket": "data", "prefix": prefix, "endpoint": s3.url(),
                    "mountPath": "/mnt/data", "provider": "other",
                    "credentialsSecretRef": {"name": "keys"}}],
            }),
        )
    };
    let read = ["exec", "declared", "--", "cat", "/mnt/data/file"];
    for (prefix, text) in [("one", "declared\n"), ("two", "another\n")] {
        s3.put("data", &format!("{prefix}/file"), text);
        world.apply(&declared(&format!("/{prefix}/"))).unwrap();
        let again = json!({"metadata": {"annotations": {annotations::RESTART: prefix}}});
        world.patch("declared", again).await;
        eventually("the bucket is another", async || {
            let found = world.kubectl(&read, "").ok()?;
            (found == text).then_some(())
        })
        .await;
    }
    world.delete("declared").await;
    // A missing one is reported.
    let missing = json!({"buckets": [{"name": "data", "bucket": "missing", "endpoint": s3.url(),
        "mountPath": "/mnt/data", "provider": "other", "credentialsSecretRef": {"name": "keys"}}]});
    world.apply(&manifest("missing", missing)).unwrap();
    world.not_mounted("missing", "data", "NoSuchBucket").await;
    world.delete("missing").await;
    let keys = Api::<Secret>::namespaced(world.client.clone(), release.name());
    eventually("volume, claim and Secret are gone", async || {
        let volumes = ListParams::default().labels(labels::VOLUME);
        let secrets = keys.list(&volumes).await.unwrap().items;
        let claims = world
            .api::<PersistentVolumeClaim>()
            .list(&volumes)
            .await
            .unwrap()
            .items;
        (secrets.is_empty() && claims.is_empty()).then_some(())
    })
    .await;
}

/// A sandbox that falls asleep and wakes.
async fn sleep(world: &World, url: &str) {
    let tenant = Tenant::new(url, "sleepy");
    let sleepy = json!({"options": {"sleepAfter": "2s"}});
    tenant.post("/lifecycle", sleepy).await.ok();
    world
        .sandbox(&names::sandbox("sleepy"), is(Phase::Suspended))
        .await;
    assert_eq!(tenant.stdout("echo awake").await, "awake");
    tenant.destroy().await.ok();
}

/// A session that ends after the controller has bound its resource to it: the facade then
/// deletes the resource. Also the end of a sandbox that is in no cache.
async fn sessions(world: &World, url: &str) {
    let tenant = Tenant::new(url, "with-session");
    tenant.create().await.ok();
    tenant.open("s").await.ok();
    let name = names::session(&names::sandbox("with-session"), "s");
    world
        .object::<SandboxSession>(&name, |session| {
            let status = session.status.as_ref();
            status.is_some_and(|status| conditions::holds(&status.conditions, conditions::READY))
        })
        .await;
    tenant.close("s").await.ok();
    world.gone::<SandboxSession>(&name).await;
    tenant.destroy().await.ok();
    Tenant::new(url, "nobody").destroy().await.ok();
}

/// A project with a port and a domain, created twice.
async fn projects(url: &str) {
    let backend = Backend::new(url, "c");
    let made = backend
        .post("/projects/create", json!({"project_name": "p"}))
        .await
        .ok();
    for port in [5173, 3000] {
        let body = json!({"container_id": made["container_name"], "subdomain": "shop",
            "frontend_port": port, "domain": "example.org"});
        backend.post("/projects/configure-domain", body).await.ok();
    }
    let body = json!({"container_id": made["container_name"]});
    backend.post("/projects/delete", body).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_have_all_rights_that_they_need_and_no_right_is_unused() {
    let world = World::new("rights").await;
    let cluster = world.environment.require_test_cluster();
    let s3 = S3::start_on(&cluster.host_address().to_string(), None).await;
    let state = tempfile::tempdir().unwrap();
    let values: Value = json!({
        "buckets": {"allowHttp": true},
        "node": {"enabled": true, "image": {"tag": "rights"}, "stateDir": state.path(),
            "kubeletDir": cluster.kubelet_directory()},
    });
    Release::load_node(world.environment, "rights");
    let release = Release::install(&world, values).await;

    let url = release.keyed_url("tenant,project").await;
    python::contract(&url);
    python::package(&url);
    projects(&url.replace(":8787", ":8888")).await;
    release.helm(&["test", release.name()], "").unwrap();
    release.key("acme", &["--scope", "tenant"]);
    sleep(&world, &url).await;
    sessions(&world, &url).await;
    live(&world).await;
    buckets(&world, &release, &url, &s3).await;

    let given = given(&release, &COMPONENTS).await;
    assert!(given.len() > 60, "the roles were not found");
    // The log is written with a delay.
    let unused = |used: &std::collections::BTreeSet<Right>| {
        let unseen = |right: &Right| {
            let (component, group, resource, verb) = right;
            let right = (
                component.as_str(),
                group.as_str(),
                resource.as_str(),
                verb.as_str(),
            );
            UNSEEN.contains(&right)
        };
        let all = given.difference(used).filter(|right| !unseen(right));
        all.cloned().collect::<Vec<_>>()
    };
    let settled = async || {
        let (used, _) = used(&release, &COMPONENTS);
        unused(&used).is_empty().then_some(())
    };
    let wait = std::time::Duration::from_secs(15);
    let _ = tokio::time::timeout(wait, eventually("every right is used", settled)).await;
    let (used, forbidden) = used(&release, &COMPONENTS);
    assert!(forbidden.is_empty(), "forbidden: {forbidden:#?}");
    assert_eq!(unused(&used), [], "given, and never used");
    // Rights of every authenticated user are in no role of Hutch.
    let more: Vec<_> = used.difference(&given).collect();
    assert!(more.is_empty(), "used, and not given: {more:#?}");
}
