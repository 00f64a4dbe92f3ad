//! Writes to the API server, and the few reads that must not come from a cache. Every write
//! checks the leadership first and has a deadline. Every error has a kind, which is the label
//! of metrics.

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use thiserror::Error;

use super::lease::{Leadership, NotLeader};
use hutch_core::objects::is_ending;
use hutch_core::reasons::Reason;

/// Timeout of one call.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// The reason why a call to the API server failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// This replica does not lead, or no longer. Nothing was sent.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The object has changed since the decision was made.
    #[error("{0} has changed meanwhile")]
    Stale(String),
    /// An object of that name exists.
    #[error("{0}")]
    AlreadyExists(String),
    /// The object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A quota of the namespace is exceeded.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The namespace is being deleted.
    #[error("{0}")]
    NamespaceTerminating(String),
    /// Hutch lacks a permission.
    #[error("{0}")]
    Forbidden(String),
    /// An admission rule of the cluster rejects the object.
    #[error("{0}")]
    AdmissionDenied(String),
    /// An admission webhook of the cluster does not answer.
    #[error("{0}")]
    WebhookUnavailable(String),
    /// The object is invalid or too large.
    #[error("{0}")]
    Invalid(String),
    /// The API server is overloaded or failed, or the connection was lost.
    #[error("the API server is not available: {0}")]
    Unavailable(String),
    /// No answer in time. The call may have had its effect.
    #[error("no answer of the API server within {0:?}")]
    Timeout(Duration),
}

impl Error {
    /// The kind, for labels of metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "NotLeader",
            Self::Stale(_) => "Stale",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::NotFound(_) => "NotFound",
            Self::QuotaExceeded(_) => "QuotaExceeded",
            Self::NamespaceTerminating(_) => "NamespaceTerminating",
            Self::Forbidden(_) => "Forbidden",
            Self::AdmissionDenied(_) => "AdmissionDenied",
            Self::WebhookUnavailable(_) => "WebhookUnavailable",
            Self::Invalid(_) => "Invalid",
            Self::Unavailable(_) => "Unavailable",
            Self::Timeout(_) => "Timeout",
        }
    }

    /// The reason if the API server understood the request and rejects it as things are.
    /// A user must hear of it; a quick retry is useless. `None` for every other error.
    pub const fn refusal(&self) -> Option<Reason> {
        Some(match self {
            Self::QuotaExceeded(_) => Reason::QuotaExceeded,
            Self::NamespaceTerminating(_) => Reason::NamespaceTerminating,
            Self::Forbidden(_) => Reason::Forbidden,
            Self::AdmissionDenied(_) => Reason::AdmissionDenied,
            Self::WebhookUnavailable(_) => Reason::WebhookUnavailable,
            Self::Invalid(_) => Reason::Invalid,
            Self::NotLeader(_)
            | Self::Stale(_)
            | Self::AlreadyExists(_)
            | Self::NotFound(_)
            | Self::Unavailable(_)
            | Self::Timeout(_) => return None,
        })
    }

    /// True if there is a [`Error::refusal`].
    pub const fn refused(&self) -> bool {
        self.refusal().is_some()
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Unavailable(error.to_string());
        };
        let message = status.message.clone();
        match status.code {
            403 if message.contains("exceeded quota") => Self::QuotaExceeded(message),
            403 if message.contains("because it is being terminated") => {
                Self::NamespaceTerminating(message)
            }
            // RBAC: `pods is forbidden: User "x" cannot create resource …`.
            403 if message.contains("User \"") && message.contains("cannot ") => {
                Self::Forbidden(message)
            }
            401 => Self::Forbidden(message),
            403 => Self::AdmissionDenied(message),
            404 => Self::NotFound(message),
            409 if status.reason == "AlreadyExists" => Self::AlreadyExists(message),
            409 => Self::Stale(message),
            400 | 413 | 422 => Self::Invalid(message),
            // A body over the API server's limit is a 413, over etcd's limit it is this.
            500 if message.contains("request is too large") => Self::Invalid(message),
            500 if message.contains("failed calling webhook") => Self::WebhookUnavailable(message),
            _ => Self::Unavailable(message),
        }
    }
}

/// Reads and writes objects as one field manager.
#[derive(Clone)]
pub struct Writer {
    pub(super) client: Client,
    leadership: Leadership,
    pub(super) manager: &'static str,
}

/// A namespaced object that can be written.
pub trait Writable:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Writable for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

impl Writer {
    /// A writer that uses `client` as `manager` while `leadership` holds.
    pub const fn new(client: Client, leadership: Leadership, manager: &'static str) -> Self {
        Self {
            client,
            leadership,
            manager,
        }
    }

    /// Creates `object`. [`Error::AlreadyExists`] if its name is taken.
    pub async fn create<K: Writable>(&self, object: &K) -> Result<K, Error> {
        let params = PostParams {
            field_manager: Some(self.manager.to_owned()),
            ..Default::default()
        };
        let api = self.api_of(object);
        self.guarded(api.create(&params, object)).await
    }

    /// Creates `object`, or changes the existing one to it. Fields of other managers stay.
    /// [`Error::AlreadyExists`] if an object of that name has another owner; it is left
    /// alone.
    pub async fn apply<K: Writable>(&self, object: &K) -> Result<K, Error> {
        let name = object.name_any();
        let namespace = object.namespace().unwrap_or_default();
        if let Some(there) = self.read::<K>(&namespace, &name).await?
            && there.owner_references() != object.owner_references()
        {
            let kind = K::kind(&());
            return Err(Error::AlreadyExists(format!(
                "there is a {kind} {name} that is not ours"
            )));
        }
        let mut body =
            serde_json::to_value(object).map_err(|error| Error::Invalid(error.to_string()))?;
        body["apiVersion"] = K::api_version(&()).into();
        body["kind"] = K::kind(&()).into();
        let params = PatchParams::apply(self.manager).force();
        let api = self.api_of(object);
        self.guarded(api.patch(&name, &params, &Patch::Apply(&body)))
            .await
    }

    /// Merges `patch` into the object that was seen. [`Error::Stale`] if it has changed since
    /// or is another object of the same name.
    pub async fn merge<K: Writable>(&self, seen: &K, mut patch: Value) -> Result<K, Error> {
        let meta = seen.meta();
        patch["metadata"]["uid"] = meta.uid.clone().into();
        patch["metadata"]["resourceVersion"] = meta.resource_version.clone().into();
        let params = PatchParams {
            field_manager: Some(self.manager.to_owned()),
            ..Default::default()
        };
        let api = self.api_of(seen);
        let name = seen.name_any();
        self.guarded(api.patch(&name, &params, &Patch::Merge(&patch)))
            .await
    }

    /// Applies `status`, with force, to the object that was seen. An object of the same
    /// name with another UID is left alone.
    pub async fn apply_status<K: Writable>(
        &self,
        seen: &K,
        status: &impl Serialize,
    ) -> Result<K, Error> {
        let metadata = json!({ "name": seen.name_any(), "uid": seen.uid() });
        self.patch_status(seen, metadata, status).await
    }

    /// As [`Writer::apply_status`], but [`Error::Stale`] if the object has changed since
    /// it was seen.
    pub async fn apply_status_unchanged<K: Writable>(
        &self,
        seen: &K,
        status: &impl Serialize,
    ) -> Result<K, Error> {
        let version = seen.resource_version();
        let metadata =
            json!({ "name": seen.name_any(), "uid": seen.uid(), "resourceVersion": version });
        self.patch_status(seen, metadata, status).await
    }

    async fn patch_status<K: Writable>(
        &self,
        seen: &K,
        metadata: Value,
        status: &impl Serialize,
    ) -> Result<K, Error> {
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": status,
        });
        let name = seen.name_any();
        let params = PatchParams::apply(self.manager).force();
        let api = self.api_of(seen);
        self.guarded(api.patch_status(&name, &params, &Patch::Apply(&body)))
            .await
    }

    /// Deletes the object that was seen. An object of the same name with another UID is
    /// left alone. Returns the object as it is now if finalizers or a grace period delay
    /// its end. An object that does not exist is no error.
    pub async fn delete<K: Writable>(&self, seen: &K) -> Result<Option<K>, Error> {
        self.delete_with(seen, None, None).await
    }

    /// As [`Writer::delete`], but [`Error::Stale`] if the object has changed since it was
    /// seen.
    pub async fn delete_unchanged<K: Writable>(&self, seen: &K) -> Result<Option<K>, Error> {
        let version = seen.resource_version();
        self.delete_with(seen, version, None).await
    }

    /// As [`Writer::delete_unchanged`], without a grace period.
    pub async fn delete_unchanged_now<K: Writable>(&self, seen: &K) -> Result<Option<K>, Error> {
        let version = seen.resource_version();
        self.delete_with(seen, version, Some(0)).await
    }

    async fn delete_with<K: Writable>(
        &self,
        seen: &K,
        resource_version: Option<String>,
        grace_period_seconds: Option<u32>,
    ) -> Result<Option<K>, Error> {
        let params = DeleteParams {
            grace_period_seconds,
            preconditions: Some(Preconditions {
                uid: seen.uid(),
                resource_version,
            }),
            ..DeleteParams::background()
        };
        let api = self.api_of(seen);
        match self.guarded(api.delete(&seen.name_any(), &params)).await {
            Ok(left) => Ok(left.left().filter(|object| is_ending(object.meta()))),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object with that UID after all objects that it owns. Until then it has a
    /// deletion timestamp.
    pub async fn delete_with_dependents<K: Writable>(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::foreground()
        };
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        self.guarded(api.delete(name, &params)).await.map(drop)
    }

    /// Reads the object from the API server, not from a cache.
    pub async fn read<K: Writable>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error> {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        within(DEADLINE, api.get_opt(name)).await
    }

    /// Reads the matching objects of a namespace from the API server.
    pub async fn matching<K: Writable>(
        &self,
        namespace: &str,
        wanted: &ListParams,
    ) -> Result<Vec<K>, Error> {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        Ok(within(DEADLINE, api.list(wanted)).await?.items)
    }

    /// True if the API server has the node.
    pub async fn node_exists(&self, name: &str) -> Result<bool, Error> {
        let api = Api::<Node>::all(self.client.clone());
        Ok(within(DEADLINE, api.get_metadata_opt(name))
            .await?
            .is_some())
    }

    fn api_of<K: Writable>(&self, object: &K) -> Api<K> {
        let namespace = object.namespace().unwrap_or_default();
        Api::namespaced(self.client.clone(), &namespace)
    }

    pub(super) async fn guarded<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        let left = self.leadership.check()?;
        within(left.min(DEADLINE), call).await
    }
}

pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Timeout(deadline)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn kind(code: u16, reason: &str, message: &str) -> &'static str {
        let status = Status::failure(message, reason).with_code(code);
        Error::from(kube::Error::Api(Box::new(status))).kind()
    }

    #[test]
    fn answers_of_the_api_server_have_the_right_kind() {
        let forbidden = |message| kind(403, "Forbidden", message);
        assert_eq!(
            forbidden("pods \"x\" is forbidden: exceeded quota: q, requested: pods=1"),
            "QuotaExceeded"
        );
        assert_eq!(
            forbidden("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\""),
            "AdmissionDenied"
        );
        assert_eq!(
            forbidden("pods is forbidden: User \"u\" cannot create resource \"pods\""),
            "Forbidden"
        );
        assert_eq!(
            forbidden("unable to create new content in namespace n because it is being terminated"),
            "NamespaceTerminating"
        );
        assert_eq!(kind(409, "AlreadyExists", ""), "AlreadyExists");
        assert_eq!(kind(409, "Conflict", ""), "Stale");
        assert_eq!(kind(422, "Invalid", ""), "Invalid");
        assert_eq!(kind(413, "RequestEntityTooLarge", ""), "Invalid");
        assert_eq!(kind(500, "", "etcdserver: request is too large"), "Invalid");
        assert_eq!(
            kind(
                500,
                "InternalError",
                "failed calling webhook \"x\": refused"
            ),
            "WebhookUnavailable"
        );
        for code in [429, 500, 503, 504] {
            assert_eq!(kind(code, "", ""), "Unavailable");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_its_deadline() {
        let result: Result<(), _> = within(DEADLINE, std::future::pending()).await;
        assert_eq!(result, Err(Error::Timeout(DEADLINE)));
    }
}
