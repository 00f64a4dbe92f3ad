//! Reads and writes for the volumes of buckets: PersistentVolumes, which belong to no
//! namespace, and the metadata of their Secrets. Every write checks the leadership first.

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::apply::{DEADLINE, Error, Writable, Writer, within};
use super::guarded::Guarded;

impl Writer {
    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    /// Reads the volume from the API server.
    pub async fn read_volume(&self, name: &str) -> Result<Option<PersistentVolume>, Error> {
        within(DEADLINE, self.volumes().get_opt(name)).await
    }

    /// Reads all volumes of the cluster from the API server.
    pub async fn list_volumes(&self) -> Result<Vec<PersistentVolume>, Error> {
        let api = self.volumes();
        let listed = within(DEADLINE, api.list(&ListParams::default())).await?;
        Ok(listed.items)
    }

    /// Creates the volume. [`Error::AlreadyExists`] if its name is taken.
    pub async fn create_volume(
        &self,
        volume: &PersistentVolume,
    ) -> Result<PersistentVolume, Error> {
        let params = PostParams {
            field_manager: Some(self.manager.to_owned()),
            ..Default::default()
        };
        let api = self.volumes();
        self.guarded(api.create(&params, volume)).await
    }

    /// Merges `patch` into the volume that was seen. [`Error::Stale`] if it has changed since.
    pub async fn merge_volume(
        &self,
        seen: &PersistentVolume,
        mut patch: Value,
    ) -> Result<(), Error> {
        patch["metadata"]["uid"] = seen.uid().into();
        patch["metadata"]["resourceVersion"] = seen.resource_version().into();
        let params = PatchParams {
            field_manager: Some(self.manager.to_owned()),
            ..Default::default()
        };
        let (api, name, patch) = (self.volumes(), seen.name_any(), Patch::Merge(&patch));
        let call = api.patch(&name, &params, &patch);
        self.guarded(call).await.map(drop)
    }

    /// Deletes the volume that was seen. [`Error::Stale`] if it has changed since. A volume that
    /// does not exist is no error.
    pub async fn delete_volume(&self, seen: &PersistentVolume) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: seen.uid(),
                resource_version: seen.resource_version(),
            }),
            ..DeleteParams::background()
        };
        let api = self.volumes();
        match self.guarded(api.delete(&seen.name_any(), &params)).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// UID of the namespace, if it exists.
    pub async fn namespace_uid(&self, name: &str) -> Result<Option<String>, Error> {
        let api = Api::<Namespace>::all(self.client.clone());
        let found = within(DEADLINE, api.get_metadata_opt(name)).await?;
        Ok(found.and_then(|namespace| namespace.uid()))
    }

    /// Hutch's Secrets in that namespace. The result has metadata only and no values.
    pub async fn list_secrets(&self, namespace: &str, labels: &str) -> Result<Vec<Secret>, Error> {
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let params = ListParams::default().labels(labels);
        let listed = within(DEADLINE, api.list_metadata(&params)).await?;
        let bare = listed.items.into_iter().map(|secret| Secret {
            metadata: secret.metadata,
            ..Default::default()
        });
        Ok(bare.collect())
    }

    /// Reads all objects of a kind in that namespace, or in all. An object that does not
    /// decode is an error inside of its guard.
    pub async fn list<K: Writable>(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<Guarded<K>>, Error> {
        let api = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let listed = within(DEADLINE, api.list(&ListParams::default())).await?;
        Ok(listed.items)
    }
}
