//! The chart's life: installed, used, upgraded, taken away and installed again, by
//! Helm, with the image that is shipped.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use crate::support::access::with_user;
use crate::support::chart::{Release, TAGS};
use crate::support::{Tenant, World};
use hutch::crd::Sandbox;
use hutch::domain::names;

/// The namespace that the chart makes, and that it keeps.
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
        // What is left of a test that failed.
        let _ = self.0.kubectl(&arguments, "");
    }
}

fn restarts(pod: &Pod) -> i32 {
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_upgraded_and_taken_away_leaves_sandboxes_alone() {
    let home = World::new("chart").await;
    let tenant = format!("{}-tenant", home.namespace);
    let kept = Kept(World::new("chart-life").await, tenant.clone());
    let release = Release { home, tenant };
    let values = json!({
        "crds": {"install": true},
        "tenants": [{"namespace": release.tenant, "create": true, "size": "lite", "sandboxes": 5}],
    });
    // The tests have made the definitions already, which the chart makes its own.
    let own = ["--take-ownership", "--force-conflicts"];
    let said = release.apply("install", TAGS[0], &values, &own);
    assert!(
        said.contains("helm uninstall` keeps all sandboxes"),
        "{said}"
    );
    assert!(said.contains(&format!("{}: 5 sandboxes of size lite", release.tenant)));

    let url = release.keyed_url("tenant").await;
    let client = Tenant::new(&url, "alice");
    assert_eq!(client.stdout("echo $((40 + 2))").await, "42");
    client.stdout_in("s", "kept=before; cd /tmp").await;
    let said = release
        .helm(&["test", release.name(), "--logs"], "")
        .unwrap();
    assert!(said.contains("'stdout': '42'"), "{said}");

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

    let said = release
        .helm(&["uninstall", release.name(), "--wait"], "")
        .unwrap();
    for kind in ["CustomResourceDefinition", "Namespace", "NetworkPolicy"] {
        assert!(said.contains(&format!("[{kind}]")), "{said}");
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
    // At another address, and with the key from before.
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
async fn a_namespace_that_is_restricted_has_sandboxes_that_are() {
    let world = World::new("chart-restricted").await;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "namespace", &world.namespace, enforce];
    world.kubectl(&label, "").unwrap();
    let release = Release::install(&world, json!({"profile": "restricted"})).await;
    let client = release.tenant("a").await;
    assert_eq!(client.stdout("id -u").await, "1000");
}
