//! Declared buckets as volumes of Restricted pods: the created objects, refusals, and the
//! cleanup. No driver mounts anything here.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::sandbox::manifest;
use crate::support::declared::{Buckets, claim_of};
use crate::support::world::eventually;
use hutch_api::{Phase, labels};

const YANDEX: &str = "ru.yandex.s3.csi";

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

fn volume_of(claim: &PersistentVolumeClaim) -> String {
    claim.spec.as_ref().unwrap().volume_name.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_volume_for_k8s_csi_s3_is_made_field_by_field() {
    let mut buckets = Buckets::new("declared").await;
    buckets.fake(YANDEX).await;
    let node = buckets.driver("node");
    let hutch = buckets.controller(YANDEX, &node).await;
    buckets.keys("keys").await;
    let read_only = json!({"prefix": "/a/b/", "region": "eu-1", "readOnly": true});
    buckets.restricted("box", read_only);
    let (pod, claim) = buckets.made("box").await;

    let name = volume_of(&claim);
    let volume = buckets.all_volumes().get(&name).await.unwrap();
    assert!(
        volume
            .annotations()
            .keys()
            .all(|key| !key.contains("provisioned-by"))
    );
    assert_eq!(volume.labels()[labels::MANAGED_BY], "hutch");
    let mut spec = serde_json::to_value(volume.spec.unwrap()).unwrap();
    for bound in ["uid", "resourceVersion"] {
        spec["claimRef"].as_object_mut().unwrap().remove(bound);
    }
    let secret = json!({"name": name, "namespace": buckets.operator});
    let wanted = json!({
        "capacity": {"storage": "1Mi"},
        "accessModes": ["ReadOnlyMany"],
        "persistentVolumeReclaimPolicy": "Retain",
        // No storage class. In a volume, the API server does not distinguish it from "".
        "volumeMode": "Filesystem",
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": buckets.world.namespace, "name": claim.name_any(),
        },
        "csi": {
            "driver": YANDEX,
            "volumeHandle": format!("{}/a/b", buckets.bucket()),
            "volumeAttributes": {
                "mounter": "geesefs",
                "options": "--memory-limit 256 --uid 1000 --gid 1000 --dir-mode 0755 --file-mode 0644 -o ro",
            },
            "nodeStageSecretRef": secret,
            "nodePublishSecretRef": secret,
            "readOnly": true,
        },
    });
    assert_eq!(spec, wanted);

    let claim = buckets
        .world
        .object::<PersistentVolumeClaim>(&claim.name_any(), is_bound)
        .await;
    let owner = &claim.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("Sandbox", None));
    let own = claim.spec.unwrap();
    assert_eq!(own.storage_class_name.as_deref(), Some(""));
    assert_eq!(own.access_modes.unwrap(), ["ReadOnlyMany"]);
    let secret = buckets.secrets().get(&name).await.unwrap();
    let data = secret.data.unwrap();
    let data: Vec<_> = data
        .iter()
        .map(|(key, value)| (key.as_str(), std::str::from_utf8(&value.0).unwrap()))
        .collect();
    let wanted = [
        ("accessKeyID", "id"),
        ("endpoint", "https://s3.example.com"),
        ("region", "eu-1"),
        ("secretAccessKey", "not-for-logs"),
    ];
    assert_eq!(data, wanted);
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));

    let spec = pod.spec.unwrap();
    assert_eq!(spec.security_context.unwrap().fs_group, None);
    let mounts = spec.containers[0].volume_mounts.clone().unwrap();
    let mount = mounts.iter().find(|m| m.name == "bucket-data").unwrap();
    assert_eq!(mount.mount_path, "/mnt/data");
    assert_eq!(
        (mount.read_only, mount.sub_path.as_ref()),
        (Some(true), None)
    );
    assert!(!hutch.log().contains("not-for-logs"));
    buckets.world.delete("box").await;
    buckets.nothing_is_left().await;
    buckets.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_share_a_volume_and_the_last_one_deletes_it() {
    let mut buckets = Buckets::new("shared").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    buckets.fake(&csi).await;
    let _hutch = buckets.controller(&csi, &node).await;
    buckets.keys("keys").await;
    for name in ["one", "two"] {
        buckets.restricted(name, json!({}));
    }
    let ((_, first), (_, second)) = (buckets.made("one").await, buckets.made("two").await);
    assert_eq!(first.name_any(), second.name_any());
    let claim = buckets
        .world
        .object::<PersistentVolumeClaim>(&first.name_any(), |c| c.owner_references().len() == 2)
        .await;
    let volume = buckets.all_volumes().get(&volume_of(&claim)).await.unwrap();
    assert_eq!(buckets.left().await.len(), 3, "volume, claim and Secret");

    buckets.world.delete("one").await;
    buckets.world.gone::<Pod>("one").await;
    let (_, kept) = buckets.made("two").await;
    assert_eq!(kept.uid(), claim.uid());
    let same = buckets.all_volumes().get(&volume.name_any()).await.unwrap();
    assert_eq!(same.uid(), volume.uid());

    buckets.world.delete("two").await;
    buckets.nothing_is_left().await;
    // It can be created again under the same name.
    buckets.restricted("three", json!({}));
    let (_, again) = buckets.made("three").await;
    assert_eq!(volume_of(&again), volume.name_any());
    buckets.world.delete("three").await;
    buckets.nothing_is_left().await;
    buckets.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_is_in_use_is_refused_until_it_is_free() {
    let mut buckets = Buckets::new("in-use").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    buckets.fake(&csi).await;
    let _hutch = buckets.controller(&csi, &node).await;
    for name in ["keys", "others"] {
        buckets.keys(name).await;
    }
    // Another program has created a volume for the same bucket.
    let foreign: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": buckets.driver("foreign")},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            "csi": {"driver": csi, "volumeHandle": buckets.bucket()},
        },
    }))
    .unwrap();
    let volumes = buckets.all_volumes();
    volumes
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    buckets.restricted("box", json!({}));
    let status = buckets.in_phase("box", Phase::Failed, "HandleInUse").await;
    let reported = buckets
        .world
        .condition("box", "BucketsReady", "HandleInUse")
        .await;
    assert!(
        reported.message.contains("another namespace"),
        "{}",
        reported.message
    );
    assert_eq!(status.pod_name, None);
    assert!(buckets.left().await.is_empty());

    let name = foreign.name_any();
    volumes
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let (_, claim) = buckets.made("box").await;
    // Another Secret of the same namespace counts as other credentials, too.
    buckets.restricted("other", json!({"credentialsSecretRef": {"name": "others"}}));
    let reported = buckets
        .world
        .condition("other", "Ready", "HandleInUse")
        .await;
    assert!(
        reported.message.contains(&volume_of(&claim)),
        "{}",
        reported.message
    );
    buckets.world.delete("box").await;
    buckets.made("other").await;

    let twice = json!({
        "securityProfile": "Restricted",
        "buckets": [
            buckets.entry(json!({"bucket": "twice"})),
            buckets.entry(json!({"bucket": "twice", "name": "b", "mountPath": "/mnt/b"})),
        ],
    });
    buckets.world.apply(&manifest("twice", twice)).unwrap();
    buckets
        .world
        .condition("twice", "BucketsReady", "HandleInUse")
        .await;
    buckets.world.delete("other").await;
    buckets.nothing_is_left().await;
    buckets.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_keys_and_endpoints_are_reported_and_a_pod_is_created_when_they_are_corrected() {
    let mut buckets = Buckets::new("keys").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    buckets.fake(&csi).await;
    let _hutch = buckets.controller(&csi, &node).await;
    let endpoint = json!({"endpoint": "http://s3.example.com"});
    buckets.restricted("http", endpoint);
    let reported = buckets
        .world
        .condition("http", "BucketsReady", "InsecureEndpoint")
        .await;
    assert!(
        reported.message.contains("--allow-http-buckets"),
        "{}",
        reported.message
    );
    let foreign = json!({"credentialsSecretRef": {"name": "keys", "namespace": "default"}});
    buckets.restricted("foreign", foreign);
    buckets
        .world
        .condition("foreign", "Ready", "NoCredentials")
        .await;

    buckets.restricted("box", json!({}));
    let reported = buckets
        .world
        .condition("box", "Ready", "NoCredentials")
        .await;
    for word in ["Secret keys", "accessKeyID", "secretAccessKey"] {
        assert!(reported.message.contains(word), "{}", reported.message);
    }
    assert!(buckets.left().await.is_empty());
    buckets.keys("keys").await;
    let (pod, claim) = buckets.made("box").await;

    // The pod cannot start. So a corrected entry replaces it at once, and the objects of
    // the first entry are deleted.
    buckets.keys("others").await;
    buckets.restricted("box", json!({"credentialsSecretRef": {"name": "others"}}));
    let next = buckets
        .world
        .object::<Pod>("box", |next| next.uid() != pod.uid())
        .await;
    assert_ne!(claim_of(&next), Some(claim.name_any()));
    eventually("the former volume is gone", async || {
        let left = buckets.left().await;
        (left.len() == 3 && !left.contains(&claim.name_any())).then_some(())
    })
    .await;
    for name in ["box", "http", "foreign"] {
        buckets.world.delete(name).await;
    }
    buckets.nothing_is_left().await;
    buckets.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_again_and_again_leaves_nothing_of_buckets() {
    let mut buckets = Buckets::new("crash").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    buckets.fake(&csi).await;
    buckets.keys("keys").await;
    let names: Vec<_> = (0..8).map(|i| format!("box-{i}")).collect();
    let mut hutch = buckets.controller(&csi, &node).await;
    for (i, name) in names.iter().enumerate() {
        // Two sandboxes share each volume.
        let prefix = format!("/{}/", i / 2);
        buckets.restricted(name, json!({"prefix": prefix}));
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        tokio::time::sleep(std::time::Duration::from_millis(random % 150)).await;
        hutch.kill();
        hutch = buckets.controller(&csi, &node).await;
    }
    for name in &names {
        buckets.made(name).await;
    }
    assert_eq!(
        buckets.left().await.len(),
        12,
        "four volumes, claims and Secrets"
    );
    hutch.kill();
    for name in &names {
        buckets.world.delete(name).await;
    }
    // Deleted while no controller ran, except for the released volumes and their Secrets.
    // One of them is needed again.
    eventually("the claims are gone", async || {
        (buckets.left().await.len() == 8).then_some(())
    })
    .await;
    buckets.restricted("again", json!({"prefix": "/0/"}));
    let _hutch = buckets.controller(&csi, &node).await;
    let (_, claim) = buckets.made("again").await;
    buckets
        .world
        .object::<PersistentVolumeClaim>(&claim.name_any(), is_bound)
        .await;
    buckets.world.delete("again").await;
    buckets.nothing_is_left().await;
    buckets.end().await;
}

/// A Secret as the facade creates it for a bucket of that sandbox.
fn of_facade(name: &str, sandbox: &str, uid: &str) -> Secret {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            labels::MANAGED_BY: "hutch", labels::SANDBOX: sandbox, labels::SANDBOX_UID: uid,
        }},
        "stringData": {"accessKeyID": "id", "secretAccessKey": "key"},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_the_facade_are_deleted_with_their_sandbox() {
    let buckets = Buckets::new("secrets").await;
    let (csi, node) = (buckets.driver("csi"), buckets.driver("node"));
    let reference = json!({"name": "named", "namespace": buckets.operator});
    let entry = buckets.entry(json!({"credentialsSecretRef": reference}));
    let spec = json!({"suspended": true, "buckets": [entry]});
    buckets.world.apply(&manifest("box", spec)).unwrap();
    let uid = buckets
        .world
        .sandboxes()
        .get("box")
        .await
        .unwrap()
        .uid()
        .unwrap();
    let secrets = buckets.secrets();
    let somebody = of_facade("somebody", "gone", "00000000-0000-0000-0000-000000000000");
    let mut theirs = of_facade("theirs", "gone", "x");
    theirs.metadata.labels = None;
    for secret in [
        of_facade("named", "box", &uid),
        of_facade("new", "box", &uid),
        somebody,
        theirs,
    ] {
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
    }
    let names = async || -> Vec<String> {
        let all = secrets.list(&ListParams::default()).await.unwrap();
        all.iter().map(ResourceExt::name_any).collect()
    };
    let _hutch = buckets.controller(&csi, &node).await;
    eventually("only the one without a sandbox is deleted", async || {
        (names().await == ["named", "new", "theirs"]).then_some(())
    })
    .await;
    buckets.world.delete("box").await;
    eventually("those of the sandbox go with it", async || {
        (names().await == ["theirs"]).then_some(())
    })
    .await;
    buckets.end().await;
}
