//! The life of a release: it is installed, used, upgraded, uninstalled and installed again,
//! by Helm and with the shipped image.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;

use crate::sandbox::manifest;
use crate::support::access::with_user;
use crate::support::chart::{CHART, Release, TAGS};
use crate::support::world::eventually;
use crate::support::{Tenant, World};
use hutch_api::Sandbox;
use hutch_core::names;

/// The namespace that the chart creates and keeps.
struct Kept(World, String);

impl Drop for Kept {
    fn drop(&mut self) {
        let arguments = [
            "delete",
            "namespace",
            &self.1,
            "--wait=false",
            "--ignore-not-found",
        ];
        // Leftovers of a failed test.
        let _ = self.0.kubectl(&arguments, "");
    }
}

pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|s| s.restart_count)
        .sum()
}

/// A copy of the chart as an earlier revision: another version, another text in a
/// definition, and one right less. There is no release yet that could take its place.
fn earlier(directory: &Path) -> PathBuf {
    let copy = directory.join("chart");
    let mut copied = Command::new("cp");
    copied.arg("--recursive").arg(CHART).arg(&copy);
    assert!(copied.status().unwrap().success());
    let change = |file: &str, now: &str, before: &str| {
        let path = copy.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = text.replace(now, before);
        assert_ne!(changed, text, "{file} has no {now:?}");
        std::fs::write(path, changed).unwrap();
    };
    let version = concat!("\nversion: ", env!("CARGO_PKG_VERSION"), "\n");
    change("Chart.yaml", version, "\nversion: 0.0.1\n");
    change(DEFINITION, NOW, BEFORE);
    let ingresses = |verbs| format!("resources: [ingresses]\n    verbs: [{verbs}]\n");
    let (now, before) = ("get, list, create, patch", "get, create, patch");
    change(
        "templates/rbac-facade.yaml",
        &ingresses(now),
        &ingresses(before),
    );
    copy
}

const DEFINITION: &str = "files/crds/sandboxsessions.yaml";
const NOW: &str = "ID by which clients name the session.";
const BEFORE: &str = "ID of the session.";

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_from_another_revision_replaces_hutch_and_no_sandbox() {
    let world = World::new("upgrade").await;
    let home = World::new("chart").await;
    let tenant = world.namespace.clone();
    let release = Release { home, tenant };
    let directory = tempfile::tempdir().unwrap();
    let earlier = earlier(directory.path());
    // Other settings change, too, also those of new sandboxes.
    let before = json!({"logFormat": "human", "sizes": {"lite": {"cpu": "400m"}}});
    release.apply_chart(&earlier, "install", TAGS[0], &before, &[]);
    let account = release.user("facade");
    let may = ["auth", "can-i", "list", "ingresses", "--as", &account];
    world.kubectl(&may, "").unwrap_err();

    let client = release.tenant("alice").await;
    client.stdout_in("s", "kept=before; cd /tmp").await;
    world.apply(&manifest("applied", json!({}))).unwrap();
    world.ready("applied").await;
    let log = "/workspace/log";
    let command =
        format!("echo begun >> {log}; until [ -e go ]; do sleep 0.1; done; echo ended >> {log}");
    let request = reqwest::Client::new()
        .post(client.address("/session/exec"))
        .header("x-sandbox-id", "alice")
        .json(&json!({"sessionId": "long", "command": command}));
    let running = tokio::spawn(request.send());
    client.until_exists(log).await;
    let all = ListParams::default();
    let uids = |pods: &[Pod]| {
        pods.iter()
            .map(|pod| pod.uid().unwrap())
            .collect::<HashSet<_>>()
    };
    let sandboxes = world.pods().list(&all).await.unwrap().items;
    let own = Api::<Pod>::namespaced(release.home.client.clone(), release.name());
    let operators = own.list(&all).await.unwrap().items;
    assert_eq!((sandboxes.len(), operators.len()), (2, 4));

    release.apply("upgrade", TAGS[1], &json!({}), &[]);
    world.kubectl(&may, "").unwrap();

    // All pods of Hutch are new.
    let image = format!(":{}", TAGS[1]);
    eventually("the earlier Hutch is gone", async || {
        let pods = own.list(&all).await.unwrap().items;
        (pods.len() == 4 && uids(&pods).is_disjoint(&uids(&operators))).then_some(())
    })
    .await;
    for pod in own.list(&all).await.unwrap() {
        let used = pod.spec.as_ref().unwrap().containers[0].image.clone();
        assert!(used.unwrap().ends_with(&image), "{}", pod.name_any());
        assert_eq!(restarts(&pod), 0, "{}", pod.name_any());
    }
    // The pods of the sandboxes are the same after Hutch has reconciled them. A new sandbox
    // gets the new settings.
    for name in ["applied".to_owned(), names::sandbox("alice")] {
        let live = json!({"spec": {"lifecycle": {"idleTimeout": "1h"}}});
        world.patch(&name, live).await;
        world.ready(&name).await;
    }
    let now = world.pods().list(&all).await.unwrap().items;
    assert_eq!(uids(&now), uids(&sandboxes));
    assert_eq!(now.iter().map(restarts).sum::<i32>(), 0);
    assert_eq!(
        client.stdout_in("s", "echo $kept; pwd").await,
        "before\n/tmp"
    );
    // The running command continues and runs once. Its request may have ended with its
    // replica.
    client.write("/workspace/go", "").await.ok();
    eventually("the command has ended", async || {
        (client.text(log).await == "begun\nended\n").then_some(())
    })
    .await;
    drop(running);
    let cpu = |pod: &Pod| {
        let resources = pod.spec.as_ref().unwrap().containers[0].resources.clone();
        resources.unwrap().limits.unwrap()["cpu"].0.clone()
    };
    client.about("bob").create().await.ok();
    let new = world.pods().get(&names::sandbox("bob")).await.unwrap();
    assert_eq!(
        (cpu(&sandboxes[0]).as_str(), cpu(&new).as_str()),
        ("400m", "500m")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn install_upgrade_and_uninstall_leave_sandboxes_alone() {
    let home = World::new("chart").await;
    let tenant = format!("{}-tenant", home.namespace);
    let kept = Kept(World::new("chart-life").await, tenant.clone());
    let release = Release { home, tenant };
    let values = json!({
        "crds": {"install": true},
        "tenants": [{"namespace": release.tenant, "create": true, "size": "lite", "sandboxes": 5}],
    });
    // Other tests have created the definitions. The chart adopts them.
    let own = ["--take-ownership", "--force-conflicts"];
    let directory = tempfile::tempdir().unwrap();
    let earlier = earlier(directory.path());
    let output = release.apply_chart(&earlier, "install", TAGS[0], &values, &own);
    let manifest = ["get", "manifest", release.name()];
    assert!(release.helm(&manifest, "").unwrap().contains(BEFORE));
    assert!(
        output.contains("helm uninstall` keeps all sandboxes"),
        "{output}"
    );
    assert!(output.contains(&format!("{}: 5 sandboxes of size lite", release.tenant)));

    let url = release.keyed_url("tenant").await;
    let client = Tenant::new(&url, "alice");
    assert_eq!(client.stdout("echo $((40 + 2))").await, "42");
    client.stdout_in("s", "kept=before; cd /tmp").await;
    let output = release
        .helm(&["test", release.name(), "--logs"], "")
        .unwrap();
    assert!(output.contains("'stdout': '42'"), "{output}");

    let pods = Api::<Pod>::namespaced(kept.0.client.clone(), &release.tenant);
    let sandboxes = Api::<Sandbox>::namespaced(kept.0.client.clone(), &release.tenant);
    let name = names::sandbox("alice");
    let before = pods.get(&name).await.unwrap();
    let same = async |client: &Tenant| {
        let now = pods.get(&name).await.unwrap();
        assert_eq!((now.uid(), restarts(&now)), (before.uid(), 0));
        assert_eq!(
            client.stdout_in("s", "echo $kept; pwd").await,
            "before\n/tmp"
        );
    };
    release.apply("upgrade", TAGS[1], &values, &[]);
    same(&client).await;
    let definition = ["get", "crd", "sandboxsessions.hutch.dev", "-o", "yaml"];
    let definition = release.home.kubectl(&definition, "").unwrap();
    assert!(definition.contains(NOW), "{definition}");

    let output = release
        .helm(&["uninstall", release.name(), "--wait"], "")
        .unwrap();
    for kind in ["CustomResourceDefinition", "Namespace", "NetworkPolicy"] {
        assert!(output.contains(&format!("[{kind}]")), "{output}");
    }
    assert!(
        sandboxes
            .get(&name)
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_none()
    );
    assert_eq!(pods.get(&name).await.unwrap().uid(), before.uid());

    release.apply("install", TAGS[1], &values, &[]);
    // The address is new, and the key is the one from before.
    let (_, key) = url.split_once("any:").unwrap();
    let key = key.split_once('@').unwrap().0;
    let url = with_user(&release.url().await, &format!("any:{key}"));
    let client = Tenant::new(&url, "alice");
    same(&client).await;
    client.destroy().await.ok();
    let namespaces = Api::<Namespace>::all(kept.0.client.clone());
    namespaces
        .delete(&release.tenant, &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_namespace_has_restricted_sandboxes() {
    let world = World::new("chart-restricted").await;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "namespace", &world.namespace, enforce];
    world.kubectl(&label, "").unwrap();
    let release = Release::install(
        &world,
        json!({"sandboxes": {"defaultProfile": "restricted"}}),
    )
    .await;
    let client = release.tenant("a").await;
    assert_eq!(client.stdout("id -u").await, "1000");
}
