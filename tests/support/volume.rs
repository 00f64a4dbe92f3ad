//! Buckets as volumes of ordinary pods. Volume, claim and Secret are written by hand, as
//! the contract of CSI-s3 has them. The pod is "restricted" for Pod Security.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::world::eventually;
use super::{S3, World};
use hutch_api::credentials;

/// A volume, and the objects of the same name that it needs.
pub struct Volume {
    pub name: String,
    pub handle: String,
    pub mounter: String,
    pub options: String,
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    /// True if the pod mounts the volume read-only.
    pub read_only: bool,
}

impl Volume {
    /// A volume of that handle on the server, for the pod's user.
    pub fn of(s3: &S3, name: &str, handle: &str) -> Self {
        Self {
            name: name.to_owned(),
            handle: handle.to_owned(),
            mounter: "s3fs".to_owned(),
            options: "-o uid=1000,gid=1000".to_owned(),
            endpoint: s3.url(),
            access_key: s3.access_key.clone(),
            secret_key: s3.secret_key.clone(),
            read_only: false,
        }
    }
}

/// The name of the CSI driver of a namespace's `hutch-node`. It is short because it is a
/// part of a socket's path.
pub fn driver(namespace: &str) -> String {
    format!("{namespace}.s3")
}

impl World {
    /// Creates the object that announces this test's driver, and returns the driver's name.
    pub async fn driver(&self) -> String {
        let name = driver(&self.namespace);
        let manifest = include_str!("../../config/rbac/driver.yaml");
        let mut driver: CSIDriver = serde_yaml_ng::from_str(manifest).unwrap();
        driver.metadata.name = Some(name.clone());
        driver.metadata.owner_references = Some(vec![self.owner().await]);
        let params = PatchParams::apply("hutch-tests").force();
        let api = Api::<CSIDriver>::all(self.client.clone());
        api.patch(&name, &params, &Patch::Apply(&driver))
            .await
            .unwrap();
        name
    }

    /// An owner reference: its object is deleted with this namespace.
    async fn owner(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        let api = Api::<Namespace>::all(self.client.clone());
        api.get(&self.namespace)
            .await
            .unwrap()
            .owner_ref(&())
            .unwrap()
    }

    /// The kubelet's directory.
    pub fn kubelet(&self) -> PathBuf {
        let cluster = self.environment.cluster.as_ref();
        cluster.map_or("/var/lib/kubelet".into(), |cluster| {
            cluster.kubelet_directory()
        })
    }

    /// Waits until the kubelet knows the driver of that name.
    pub async fn until_registered(&self, driver: &str) {
        eventually("the driver is registered", async || {
            self.is_registered(driver).await.then_some(())
        })
        .await;
    }

    /// Waits until the kubelet no longer knows the driver of that name.
    pub async fn until_unregistered(&self, driver: &str) {
        eventually("the driver is no longer registered", async || {
            (!self.is_registered(driver).await).then_some(())
        })
        .await;
    }

    async fn is_registered(&self, driver: &str) -> bool {
        let api = Api::<CSINode>::all(self.client.clone());
        let node = api.get(&self.node_name().await).await.unwrap();
        node.spec.drivers.iter().any(|known| known.name == driver)
    }

    /// Creates or changes the volume's Secret.
    pub async fn secret_of(&self, volume: &Volume) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": volume.name},
            "stringData": {
                credentials::ACCESS_KEY_ID: volume.access_key,
                credentials::SECRET_ACCESS_KEY: volume.secret_key,
                credentials::ENDPOINT: volume.endpoint,
            },
        });
        self.apply(&secret.to_string()).unwrap();
    }

    /// Creates the volume, its claim and its Secret.
    pub async fn make(&self, volume: &Volume) {
        self.secret_of(volume).await;
        let (name, namespace) = (&volume.name, &self.namespace);
        let pv = format!("{namespace}-{name}");
        let secret = json!({"name": name, "namespace": namespace});
        let all = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "PersistentVolume",
             "metadata": {"name": pv, "ownerReferences": [self.owner().await]},
             "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
                "claimRef": {"namespace": namespace, "name": name},
                "csi": {"driver": self.driver().await, "volumeHandle": volume.handle,
                    "volumeAttributes": {"mounter": volume.mounter, "options": volume.options},
                    "nodeStageSecretRef": secret, "nodePublishSecretRef": secret},
            }},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
             "spec": {
                "storageClassName": "", "volumeName": pv, "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}},
            }},
        ]});
        self.apply(&all.to_string()).unwrap();
    }

    /// Creates the volume, and a pod of the same name that mounts it at `/mnt/b`.
    pub async fn make_with_pod(&self, volume: &Volume) {
        self.make(volume).await;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": volume.name}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "c", "image": "python:3.11-slim", "command": ["sleep", "infinity"],
                "securityContext": {"allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "b", "mountPath": "/mnt/b"}],
            }],
            "volumes": [{"name": "b", "persistentVolumeClaim":
                {"claimName": volume.name, "readOnly": volume.read_only}}],
        }});
        self.apply(&pod.to_string()).unwrap();
    }

    /// The pod, once it runs.
    pub async fn running_pod(&self, name: &str) -> Pod {
        self.object(name, |pod: &Pod| {
            let status = pod.status.as_ref();
            status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
        })
        .await
    }

    /// Runs a script in the pod. Returns its output or its errors.
    pub fn sh(&self, pod: &str, command: &str) -> Result<String, String> {
        self.kubectl(&["exec", pod, "--", "sh", "-c", command], "")
    }

    /// Waits until an event of a pod contains that text.
    pub async fn complaint(&self, pod: &str, words: &[&str]) -> String {
        eventually(&format!("{pod}'s events say {words:?}"), async || {
            let wanted = |text: &String| words.iter().all(|word| text.contains(word));
            let api = self.api::<k8s_openapi::api::core::v1::Event>();
            let events = api.list(&Default::default()).await.unwrap().items;
            let of = events
                .into_iter()
                .filter(|event| event.involved_object.name.as_deref() == Some(pod));
            of.filter_map(|event| event.message).find(wanted)
        })
        .await
    }

    /// Deletes pods at once and waits until they are gone.
    pub async fn delete_pods(&self, names: &[&str]) {
        for name in names {
            let params = DeleteParams::default();
            self.pods().delete(name, &params).await.unwrap();
        }
        for name in names {
            self.gone::<Pod>(name).await;
        }
    }

    /// The mounts and the directories of this test's driver on this machine.
    pub fn on_the_host(&self, pods: &[Pod]) -> Vec<String> {
        let driver = driver(&self.namespace);
        let uids: Vec<_> = pods.iter().filter_map(ResourceExt::uid).collect();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours =
            |line: &&str| line.contains(&driver) || uids.iter().any(|uid| line.contains(uid));
        let mut all: Vec<_> = table.lines().filter(ours).map(str::to_owned).collect();
        let staged = self
            .kubelet()
            .join("plugins/kubernetes.io/csi")
            .join(driver);
        all.extend(entries(&staged));
        for uid in uids {
            let pod = self.kubelet().join("pods").join(uid);
            all.extend(entries(&pod.join("volumes/kubernetes.io~csi")));
        }
        all
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string())
}
