//! The Secrets with the S3 credentials of live mounts. They are in the operator's
//! namespace. Labels name the sandbox of each. Nothing here reads credentials back.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::error::refusal;
use hutch_api::{MANAGED_BY, Sandbox, SecretRef, credentials, labels};
use hutch_core::interfaces::{ResourceError, S3Secrets};
use hutch_core::names;
use hutch_core::objects::{is_managed, label};
use hutch_core::s3::S3Credentials;
use hutch_kube::apply::Writer;

/// Creates and deletes the Secrets.
pub struct S3SecretStore {
    writer: Writer,
    namespace: String,
}

impl S3SecretStore {
    /// A store in `namespace`, the operator's.
    pub const fn new(writer: Writer, namespace: String) -> Self {
        Self { writer, namespace }
    }

    fn secret(&self, sandbox: &Sandbox, bucket: &str, keys: &S3Credentials) -> Secret {
        let (name, uid) = (sandbox.name_any(), sandbox.uid().unwrap_or_default());
        let unique = uuid::Uuid::new_v4().to_string();
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Secret {
            metadata: ObjectMeta {
                name: Some(names::bucket_secret(&name, &unique)),
                namespace: Some(self.namespace.clone()),
                labels: Some(
                    [
                        label(labels::MANAGED_BY, MANAGED_BY),
                        label(labels::SANDBOX, &name),
                        label(labels::SANDBOX_UID, &uid),
                        label(labels::BUCKET, bucket),
                    ]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            string_data: Some(
                [
                    label(credentials::ACCESS_KEY_ID, &keys.access_key_id),
                    label(credentials::SECRET_ACCESS_KEY, &keys.secret_access_key),
                ]
                .into(),
            ),
            ..Secret::default()
        }
    }
}

impl S3Secrets for S3SecretStore {
    fn create<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        bucket: &'a str,
        keys: &'a S3Credentials,
    ) -> BoxFuture<'a, Result<SecretRef, ResourceError>> {
        async move {
            let secret = self.secret(sandbox, bucket, keys);
            self.writer.create(&secret).await.map_err(refusal)?;
            Ok(SecretRef {
                name: secret.name_any(),
                namespace: secret.namespace(),
            })
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        secret: &'a SecretRef,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        async move {
            if secret.namespace.as_deref() != Some(&self.namespace) {
                return Ok(());
            }
            let found: Option<Secret> = self
                .writer
                .read(&self.namespace, &secret.name)
                .await
                .map_err(refusal)?;
            let ours = |found: &Secret| {
                let owner = label(&found.metadata, labels::SANDBOX_UID);
                is_managed(&found.metadata) && owner == sandbox.metadata.uid.as_deref()
            };
            if let Some(found) = found.filter(ours) {
                self.writer.delete(&found).await.map_err(refusal)?;
            }
            Ok(())
        }
        .boxed()
    }
}
