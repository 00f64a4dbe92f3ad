//! The rights in `config/rbac` are sufficient for buckets. The controller runs as the
//! ServiceAccount that has them.

use std::path::Path;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::support::declared::Buckets;
use crate::support::world::eventually;
use hutch_api::labels;

const OPERATOR: &str = "hutch-system";

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_given_are_enough_to_make_volumes_and_take_them_away() {
    let mut buckets = Buckets::new("rights").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    buckets.fake(&csi).await;
    let rights = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rbac");
    let mut apply = buckets.world.environment.kubectl();
    apply.args(["apply", "--server-side", "-k"]).arg(rights);
    assert!(apply.output().unwrap().status.success());
    let directory = tempfile::tempdir().unwrap();
    let environment = buckets
        .world
        .environment
        .edited(directory.path(), |_, user| {
            user["as"] = json!(format!("system:serviceaccount:{OPERATOR}:hutch"));
            user["as-groups"] = json!([format!("system:serviceaccounts:{OPERATOR}")]);
        });
    let arguments = ["--no-leader-election", "--operator-namespace", OPERATOR];
    let drivers = ["--csi-driver", &csi, "--node-driver", &node];
    let hutch = buckets.world.hutch_on(
        &environment,
        "controller",
        &[arguments.as_slice(), &drivers].concat(),
    );
    hutch.until_ready().await;
    buckets.keys("keys").await;
    for name in ["one", "two"] {
        buckets.restricted(name, json!({}));
        buckets.made(name).await;
    }
    let (_, claim) = buckets.made("one").await;
    let volume = claim.labels()[labels::VOLUME].clone();
    // One sandbox releases the volume, and the other claims it in another mode.
    buckets.restricted("one", json!({"prefix": "/other/"}));
    buckets.world.delete("two").await;
    let secrets = Api::<Secret>::namespaced(buckets.world.client.clone(), OPERATOR);
    eventually("the first volume and its Secret are gone", async || {
        let secret = secrets.get_opt(&volume).await.unwrap();
        let left = buckets.left().await;
        (secret.is_none() && left.len() == 2).then_some(())
    })
    .await;
    buckets.world.delete("one").await;
    buckets.nothing_is_left().await;
    let mine = ListParams::default().labels(labels::VOLUME);
    eventually("so is the second's Secret", async || {
        secrets
            .list(&mine)
            .await
            .unwrap()
            .items
            .is_empty()
            .then_some(())
    })
    .await;
    assert!(!hutch.log().contains("forbidden"), "{}", hutch.log());
    buckets.end().await;
}
