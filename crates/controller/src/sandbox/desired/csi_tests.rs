use serde_json::{Value, json};

use super::*;
use crate::sandbox::desired::buckets::volumes;
use crate::sandbox::desired::placement::Volumes;
use crate::sandbox::fixtures::{bucket, sandbox};
use hutch_api::Bucket;

const YANDEX: &str = "ru.yandex.s3.csi";

fn settings(driver: &str) -> BucketSettings {
    BucketSettings {
        csi_driver: driver.into(),
        operator_namespace: "hutch-system".into(),
        ..Default::default()
    }
}

fn volume(driver: &str, change: impl FnOnce(&mut Bucket)) -> BucketVolume {
    let mut bucket = bucket("data");
    change(&mut bucket);
    let sandbox = sandbox(|spec| spec.buckets = vec![bucket]);
    volumes(&sandbox, &settings(driver), Volumes::All)
        .unwrap()
        .remove(0)
}

fn keys() -> S3Credentials {
    S3Credentials {
        access_key_id: "id".into(),
        secret_access_key: "key".into(),
    }
}

#[test]
fn a_volume_for_k8s_csi_s3_has_exactly_the_fields_of_its_contract() {
    let volume = volume(YANDEX, |bucket| bucket.prefix = Some("/a/b/".into()));
    let (name, claim) = (volume.name("ns-uid"), volume.claim.clone());
    let made = volume.persistent_volume("ns-uid", &settings(YANDEX));
    let secret = json!({"name": name, "namespace": "hutch-system"});
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "hutch"}},
        "spec": {
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": "ns", "name": claim,
            },
            "csi": {
                "driver": YANDEX,
                "volumeHandle": "data/a/b",
                "volumeAttributes": {
                    "mounter": "geesefs",
                    "options": "--memory-limit 256 --uid 1000 --gid 1000 --dir-mode 0755 --file-mode 0644",
                },
                "nodeStageSecretRef": secret,
                "nodePublishSecretRef": secret,
                "readOnly": false,
            },
        },
    });
    assert_eq!(serde_json::to_value(made).unwrap(), wanted);
}

#[test]
fn every_sandbox_is_an_owner_of_the_claim_and_none_controls_it() {
    let volume = volume(YANDEX, |_| ());
    let owner = sandbox(|_| ());
    let name = volume.name("ns-uid");
    let made = serde_json::to_value(volume.persistent_volume_claim("ns-uid", &owner)).unwrap();
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": volume.claim,
            "namespace": "ns",
            "labels": {"app.kubernetes.io/managed-by": "hutch", "hutch.dev/volume": name},
            "ownerReferences": [{
                "apiVersion": "hutch.dev/v1alpha1", "kind": "Sandbox", "name": "box", "uid": "uid-1",
            }],
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "volumeName": name,
            "resources": {"requests": {"storage": "1Mi"}},
        },
    });
    assert_eq!(made, wanted);
}

#[test]
fn the_secret_has_four_keys_or_three_without_a_region() {
    let volume = volume(YANDEX, |bucket| bucket.region = Some("eu-1".into()));
    let secret = volume.secret("ns-uid", &keys(), &settings(YANDEX));
    assert_eq!(secret.metadata.name, Some(volume.name("ns-uid")));
    assert_eq!(secret.metadata.namespace.as_deref(), Some("hutch-system"));
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    let data: BTreeMap<_, _> = secret.data.unwrap();
    let data = data.into_iter();
    let data: Value = data
        .map(|(key, ByteString(value))| (key, json!(String::from_utf8(value).unwrap())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let wanted = json!({
        "accessKeyID": "id", "secretAccessKey": "key",
        "endpoint": "https://s3.example.com", "region": "eu-1",
    });
    assert_eq!(data, wanted);
    let volume = self::volume(YANDEX, |_| ());
    let secret = volume.secret("ns-uid", &keys(), &settings(YANDEX));
    assert_eq!(secret.data.unwrap().len(), 3);
}

#[test]
fn a_read_only_bucket_is_read_only_in_every_object() {
    for (driver, options) in [
        (
            YANDEX,
            "--memory-limit 256 --uid 1000 --gid 1000 --dir-mode 0755 --file-mode 0644 -o ro",
        ),
        (
            hutch_api::CSI_DRIVER,
            "-o uid=1000 -o gid=1000 -o umask=0022 -o ro -o use_path_request_style",
        ),
    ] {
        let volume = volume(driver, |bucket| bucket.read_only = true);
        let spec = volume
            .persistent_volume("u", &settings(driver))
            .spec
            .unwrap();
        assert_eq!(spec.access_modes.unwrap(), ["ReadOnlyMany"]);
        let csi = spec.csi.unwrap();
        assert_eq!(csi.read_only, Some(true));
        assert_eq!(csi.volume_attributes.unwrap()["options"], options);
        let claim = volume.persistent_volume_claim("u", &sandbox(|_| ()));
        assert_eq!(claim.spec.unwrap().access_modes.unwrap(), ["ReadOnlyMany"]);
        let (_, mount) = volume.pod_volume();
        assert_eq!((mount.read_only, mount.sub_path), (Some(true), None));
    }
}

#[test]
fn the_driver_of_hutch_node_uses_s3fs_and_the_options_of_the_spec_win() {
    let driver = hutch_api::CSI_DRIVER;
    let volume = volume(driver, |bucket| {
        bucket.provider = hutch_api::BucketProvider::R2;
        bucket.options = vec!["multipart_size=64".into(), "nomixupload".into()];
    });
    let spec = volume
        .persistent_volume("u", &settings(driver))
        .spec
        .unwrap();
    let attributes = spec.csi.unwrap().volume_attributes.unwrap();
    assert_eq!(attributes["mounter"], "s3fs");
    assert_eq!(attributes["provider"], "r2");
    assert_eq!(
        attributes["options"],
        "-o uid=1000 -o gid=1000 -o umask=0022 -o multipart_size=64 -o nomixupload"
    );
}

#[test]
fn the_name_of_a_volume_depends_on_everything_that_a_mount_depends_on() {
    let name = |namespace: &str, driver: &str, change: fn(&mut Bucket)| {
        volume(driver, change).name(namespace)
    };
    let same = name("u", YANDEX, |_| ());
    assert_eq!(
        same,
        name("u", YANDEX, |bucket| bucket.mount_path = "/x".into())
    );
    assert_eq!(same, name("u", YANDEX, |bucket| bucket.name = "x".into()));
    let mut all = vec![
        same,
        name("v", YANDEX, |_| ()),
        name("u", hutch_api::CSI_DRIVER, |_| ()),
        name("u", YANDEX, |bucket| bucket.bucket = "other".into()),
        name("u", YANDEX, |bucket| bucket.prefix = Some("/a/".into())),
        name("u", YANDEX, |bucket| bucket.read_only = true),
        name("u", YANDEX, |bucket| bucket.endpoint = "https://x".into()),
        name("u", YANDEX, |bucket| bucket.region = Some("x".into())),
        name("u", YANDEX, |b| b.credentials_secret_ref.name = "x".into()),
        name("u", YANDEX, |b| {
            b.credentials_secret_ref.namespace = Some("x".into())
        }),
    ];
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}
