//! A world with buckets and without a mounter. The CSINode lists drivers that no process
//! serves, and the test writes the status as `hutch-node` would.

use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
};
use k8s_openapi::api::storage::v1::CSINode;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::world::eventually;
use super::{Hutch, World};
use hutch_api::{BucketPhase, Phase, Sandbox, SandboxStatus, labels, managers};
use hutch_core::buckets;

/// A world with a namespace for the operator's Secrets, and with its own drivers on every
/// node.
pub struct Buckets {
    pub world: World,
    pub operator: String,
    drivers: Vec<String>,
}

impl Buckets {
    pub async fn new(test: &str) -> Self {
        let world = World::new(test).await;
        let operator = format!("{}-hutch", world.namespace);
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(operator.clone());
        let namespaces = Api::all(world.client.clone());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        Self {
            world,
            operator,
            drivers: Vec::new(),
        }
    }

    /// Starts a controller with that CSI driver and that driver of `hutch-node`.
    pub async fn controller(&self, csi: &str, node: &str) -> Hutch {
        let arguments = [
            "--no-leader-election",
            "--operator-namespace",
            &self.operator,
            "--csi-driver",
            csi,
            "--node-driver",
            node,
        ];
        self.world.hutch("controller", &arguments).await
    }

    /// A driver's name that no other test uses.
    pub fn driver(&self, kind: &str) -> String {
        format!("{kind}.{}", self.world.namespace)
    }

    /// Adds the driver to every node. It is a fake: no process serves it.
    pub async fn fake(&mut self, driver: &str) {
        self.drivers.push(driver.to_owned());
        self.list_drivers(&self.drivers).await;
    }

    async fn list_drivers(&self, drivers: &[String]) {
        let nodes = Api::<Node>::all(self.world.client.clone());
        let api = Api::<CSINode>::all(self.world.client.clone());
        let named = |name: &String| json!({"name": name, "nodeID": "fake"});
        for node in nodes.list(&ListParams::default()).await.unwrap() {
            let name = node.name_any();
            let list = json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
                "metadata": {"name": name},
                "spec": {"drivers": drivers.iter().map(named).collect::<Vec<_>>()},
            });
            let params = PatchParams::apply(&self.world.namespace).force();
            api.patch(&name, &params, &Patch::Apply(&list))
                .await
                .unwrap();
        }
    }

    /// Removes the drivers.
    pub async fn end(&self) {
        self.list_drivers(&[]).await;
        let namespaces = Api::<Namespace>::all(self.world.client.clone());
        let at_once = DeleteParams::default();
        namespaces.delete(&self.operator, &at_once).await.unwrap();
    }

    /// Creates the Secret `name` with credentials, beside the sandboxes.
    pub async fn keys(&self, name: &str) {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": name},
            "stringData": {"accessKeyID": "id", "secretAccessKey": "not-for-logs"},
        }))
        .unwrap();
        let api = self.world.api::<Secret>();
        api.create(&PostParams::default(), &secret).await.unwrap();
    }

    /// The name of a bucket that no other test uses.
    pub fn bucket(&self) -> String {
        self.world.namespace.clone()
    }

    pub fn entry(&self, change: Value) -> Value {
        let mut entry = json!({
            "name": "data", "bucket": self.bucket(), "endpoint": "https://s3.example.com",
            "mountPath": "/mnt/data", "credentialsSecretRef": {"name": "keys"},
        });
        for (key, value) in change.as_object().unwrap() {
            entry[key] = value.clone();
        }
        entry
    }

    /// Applies a sandbox of profile Restricted with one bucket.
    pub fn restricted(&self, name: &str, change: Value) {
        let spec = json!({
            "securityProfile": "Restricted", "buckets": [self.entry(change)],
            "workspace": {"persistence": "Ephemeral", "size": "64Mi"},
        });
        let manifest = json!({
            "apiVersion": "hutch.dev/v1alpha1", "kind": "Sandbox",
            "metadata": {"name": name}, "spec": spec,
        });
        self.world.apply(&manifest.to_string()).unwrap();
    }

    /// Returns the pod, once it exists, and the claim of its bucket.
    pub async fn made(&self, name: &str) -> (Pod, PersistentVolumeClaim) {
        let pod = self.world.object::<Pod>(name, |_| true).await;
        let claim = claim_of(&pod).expect("the bucket is a volume");
        let claim = self.world.claims().get(&claim).await.unwrap();
        (pod, claim)
    }

    pub fn all_volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.world.client.clone())
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.world.client.clone(), &self.operator)
    }

    /// The volumes, claims and Secrets for buckets of this world.
    pub async fn left(&self) -> Vec<String> {
        let all = ListParams::default();
        let mut left = Vec::new();
        for volume in self.all_volumes().list(&all).await.unwrap() {
            let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            let ours = claim.and_then(|c| c.namespace.as_ref()) == Some(&self.world.namespace);
            let csi = volume.spec.as_ref().is_some_and(|s| s.csi.is_some());
            left.extend((ours && csi).then(|| volume.name_any()));
        }
        let claims = self.world.claims().list(&all).await.unwrap();
        let of_buckets =
            |claim: &&PersistentVolumeClaim| claim.labels().contains_key(labels::VOLUME);
        left.extend(claims.iter().filter(of_buckets).map(ResourceExt::name_any));
        let secrets = self.secrets().list(&all).await.unwrap();
        left.extend(secrets.iter().map(ResourceExt::name_any));
        left
    }

    pub async fn nothing_is_left(&self) {
        eventually("nothing of the buckets is left", async || {
            self.left().await.is_empty().then_some(())
        })
        .await;
    }

    /// Writes the status as `hutch-node` would: the buckets of the spec have this phase in
    /// the current container.
    pub async fn node_says(&self, name: &str, phase: BucketPhase, reason: Option<&str>) {
        let sandbox = self.world.sandboxes().get(name).await.unwrap();
        let pod = self
            .world
            .object::<Pod>(name, |pod| buckets::container_id(pod).is_some())
            .await;
        let container = buckets::container_id(&pod).unwrap();
        let entries = sandbox.spec.buckets.iter().map(|bucket| {
            json!({
                "name": bucket.name, "phase": phase, "mechanism": "Live",
                "since": "2026-01-01T00:00:00Z", "lastCheck": "2026-01-01T00:00:00Z",
                "reason": reason, "error": reason, "containerID": container,
                "digest": buckets::digest(bucket),
            })
        });
        let status = json!({
            "apiVersion": "hutch.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": name},
            "status": {"buckets": entries.collect::<Vec<_>>()},
        });
        let params = PatchParams::apply(managers::NODE).force();
        let api = self.world.sandboxes();
        api.patch_status(name, &params, &Patch::Apply(&status))
            .await
            .unwrap();
    }

    pub async fn in_phase(&self, name: &str, phase: Phase, reason: &str) -> SandboxStatus {
        let ready = self.world.condition(name, "Ready", reason).await;
        let is = |sandbox: &Sandbox| sandbox.status.as_ref().is_some_and(|s| s.phase == phase);
        let sandbox = self.world.sandbox(name, is).await;
        assert_eq!(ready.reason, reason);
        sandbox.status.unwrap()
    }
}

/// The claim of the bucket `data`, if it is a volume of the pod.
pub fn claim_of(pod: &Pod) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name == "bucket-data")?;
    Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())
}
