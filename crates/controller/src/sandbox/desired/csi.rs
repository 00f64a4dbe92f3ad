//! The volume, the claim and the Secret of a bucket, with the fields of CSI-s3. The volume is
//! static and has no storage class. A deletion of these objects never deletes data. Pure: the
//! credentials are an argument.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeSpec, Secret, SecretReference,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::buckets::{BucketVolume, Mounter};
use crate::context::BucketSettings;
use hutch_api::{MANAGED_BY, Sandbox, credentials, labels};
use hutch_core::s3::{PROVIDER_ATTRIBUTE, S3Credentials, provider_name};

/// Kubernetes requires a size, but a bucket has none. This one fits into every quota.
const SIZE: &str = "1Mi";

impl BucketVolume {
    /// The PersistentVolume, for a namespace with that UID.
    pub fn persistent_volume(
        &self,
        namespace_uid: &str,
        settings: &BucketSettings,
    ) -> PersistentVolume {
        let name = self.name(namespace_uid);
        let secret = Some(SecretReference {
            name: Some(name.clone()),
            namespace: Some(settings.operator_namespace.clone()),
        });
        PersistentVolume {
            metadata: ObjectMeta {
                name: Some(name),
                labels: Some(entry(labels::MANAGED_BY, MANAGED_BY)),
                ..Default::default()
            },
            spec: Some(PersistentVolumeSpec {
                capacity: Some(storage()),
                access_modes: Some(vec![self.access_mode().to_owned()]),
                persistent_volume_reclaim_policy: Some("Retain".to_owned()),
                storage_class_name: Some(String::new()),
                volume_mode: Some("Filesystem".to_owned()),
                claim_ref: Some(ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("PersistentVolumeClaim".to_owned()),
                    namespace: Some(self.namespace.clone()),
                    name: Some(self.claim.clone()),
                    ..Default::default()
                }),
                csi: Some(CSIPersistentVolumeSource {
                    driver: self.driver.clone(),
                    volume_handle: self.handle.clone(),
                    volume_attributes: Some(self.attributes()),
                    node_stage_secret_ref: secret.clone(),
                    node_publish_secret_ref: secret,
                    read_only: Some(self.bucket.read_only),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The attributes for the driver. Only the driver of `hutch-node` knows the provider.
    fn attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::new();
        attributes.extend(entry("mounter", self.mounter.name()));
        attributes.extend(entry("options", &self.options));
        if self.mounter == Mounter::S3fs {
            let provider = provider_name(self.bucket.provider);
            attributes.extend(entry(PROVIDER_ATTRIBUTE, provider));
        }
        attributes
    }

    /// The claim of that volume. Every sandbox that uses it is an owner, and none is the
    /// controller. So the garbage collector deletes it after the last of them.
    pub fn persistent_volume_claim(
        &self,
        namespace_uid: &str,
        sandbox: &Sandbox,
    ) -> PersistentVolumeClaim {
        let name = self.name(namespace_uid);
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(self.claim.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(volume_labels(&name)),
                owner_references: Some(sandbox.owner_ref(&()).into_iter().collect()),
                ..Default::default()
            },
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec![self.access_mode().to_owned()]),
                storage_class_name: Some(String::new()),
                volume_mode: Some("Filesystem".to_owned()),
                volume_name: Some(name),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(storage()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The Secret of that volume, in the operator's namespace.
    pub fn secret(
        &self,
        namespace_uid: &str,
        keys: &S3Credentials,
        settings: &BucketSettings,
    ) -> Secret {
        let name = self.name(namespace_uid);
        let text = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut data = BTreeMap::from([
            (
                credentials::ACCESS_KEY_ID.to_owned(),
                text(&keys.access_key_id),
            ),
            (
                credentials::SECRET_ACCESS_KEY.to_owned(),
                text(&keys.secret_access_key),
            ),
            (
                credentials::ENDPOINT.to_owned(),
                text(&self.bucket.endpoint),
            ),
        ]);
        if let Some(region) = &self.bucket.region {
            data.insert(credentials::REGION.to_owned(), text(region));
        }
        Secret {
            metadata: ObjectMeta {
                labels: Some(volume_labels(&name)),
                name: Some(name),
                namespace: Some(settings.operator_namespace.clone()),
                ..Default::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(data),
            ..Default::default()
        }
    }

    const fn access_mode(&self) -> &'static str {
        if self.bucket.read_only {
            "ReadOnlyMany"
        } else {
            "ReadWriteMany"
        }
    }
}

fn storage() -> BTreeMap<String, Quantity> {
    [("storage".to_owned(), Quantity(SIZE.to_owned()))].into()
}

fn entry(key: &str, value: &str) -> BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

fn volume_labels(name: &str) -> BTreeMap<String, String> {
    let mut labels = entry(labels::MANAGED_BY, MANAGED_BY);
    labels.extend(entry(labels::VOLUME, name));
    labels
}

#[cfg(test)]
#[path = "csi_tests.rs"]
mod tests;
