//! The Sandbox resources of one namespace, for the facade. It reads them from the
//! cache and writes with its own field manager. It needs no lease: the names of its
//! sandboxes are derived, so replicas cannot create one twice, and no controller
//! writes the status fields that it owns (`lastActivity`, `traceparent`).

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::refusal;
use hutch_api::{Bucket, Lifecycle, Sandbox};
use hutch_core::interfaces::{NewSandbox, ResourceError, Sandboxes};
use hutch_core::names::is_name;
use hutch_core::sync::Lock;
use hutch_kube::apply::{Error, Writer};
use hutch_kube::guarded::Guarded;
use hutch_kube::watches::Cache;

/// Attempts to change an object that others change at the same time.
const MAX_ATTEMPTS: usize = 5;

/// The sandboxes of one namespace.
pub struct SandboxStore {
    cache: Cache<Sandbox>,
    writer: Writer,
    namespace: String,
    /// A version of the cache and the number of awake sandboxes in it. The number is
    /// stored because every client may request it at any rate.
    awake: Lock<Option<(u64, usize)>>,
}

impl SandboxStore {
    /// `cache` must contain the sandboxes of `namespace`. It may contain others.
    pub const fn new(cache: Cache<Sandbox>, writer: Writer, namespace: String) -> Self {
        Self {
            cache,
            writer,
            namespace,
            awake: Lock::new(None),
        }
    }

    async fn create_or_read(&self, new: NewSandbox) -> Result<Sandbox, Error> {
        let mut sandbox = Sandbox::new(&new.name, new.spec);
        sandbox.metadata.namespace = Some(self.namespace.clone());
        for (key, note) in new.notes {
            sandbox.annotations_mut().insert(key.to_owned(), note);
        }
        match self.writer.create(&sandbox).await {
            Err(Error::AlreadyExists(message)) => self
                .writer
                .read(&self.namespace, &new.name)
                .await?
                .ok_or(Error::Unavailable(message)),
            result => result,
        }
    }

    /// Edits the sandbox in its cached version. If that is missing or stale, it reads
    /// the sandbox from the API server. Returns false if there is no such sandbox, or
    /// nothing to change.
    async fn edit(&self, name: &str, edit: Edit<'_>) -> Result<bool, Error> {
        let mut sandbox = self.get(name);
        for _ in 0..MAX_ATTEMPTS {
            let seen = match sandbox.take() {
                Some(seen) => seen,
                None => match self.writer.read(&self.namespace, name).await? {
                    Some(seen) => Arc::new(seen),
                    None => return Ok(false),
                },
            };
            let written = match &edit {
                Edit::Spec(patch) => self.writer.merge(&*seen, patch.clone()).await,
                Edit::Buckets(change) => {
                    let Some(buckets) = change(&seen.spec.buckets) else {
                        return Ok(false);
                    };
                    let patch = json!({"spec": {"buckets": buckets}, "metadata": {}});
                    self.writer.merge(&*seen, patch).await
                }
                Edit::Status(status) => self.writer.apply_status(&*seen, status).await,
            };
            match written {
                Ok(_) => return Ok(true),
                Err(Error::NotFound(_)) => return Ok(false),
                // The sandbox has changed or was replaced: read it again.
                Err(Error::Stale(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Stale(format!("Sandbox {name}")))
    }
}

/// A change of the spec, or of the status fields that the facade owns.
enum Edit<'a> {
    Spec(Value),
    /// Maps the present buckets to the new ones; `None` if nothing changes.
    Buckets(&'a (dyn Fn(&[Bucket]) -> Option<Vec<Bucket>> + Send + Sync)),
    Status(Value),
}

impl Sandboxes for SandboxStore {
    fn get(&self, name: &str) -> Option<Arc<Sandbox>> {
        self.cache.get(&self.namespace, name)
    }

    fn is_unreadable(&self, name: &str) -> bool {
        self.cache.is_unreadable(&self.namespace, name)
    }

    fn fetch<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>> {
        async move {
            if !is_name(name) {
                return Ok(None);
            }
            self.writer
                .read(&self.namespace, name)
                .await
                .map_err(refusal)
        }
        .boxed()
    }

    fn fetch_by_uid<'a>(
        &'a self,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>> {
        async move {
            // The API server cannot select by UID.
            let all = self
                .writer
                .list::<Sandbox>(Some(&self.namespace))
                .await
                .map_err(refusal)?;
            let meant = |it: &Guarded<Sandbox>| it.meta().uid.as_deref() == Some(uid);
            match all.into_iter().find(meant) {
                None => Ok(None),
                Some(Guarded(Ok(sandbox))) => Ok(Some(sandbox)),
                Some(Guarded(Err(invalid))) => Err(ResourceError::Unavailable(invalid.error)),
            }
        }
        .boxed()
    }

    fn all(&self) -> Vec<Arc<Sandbox>> {
        let mut all = self.cache.store().state();
        all.retain(|sandbox| sandbox.metadata.namespace.as_deref() == Some(&self.namespace));
        all
    }

    fn awake(&self) -> usize {
        // Read the version first. If the cache changes while we count, the stored
        // version is stale and the next call counts again.
        let version = *self.cache.changes().borrow();
        let mut memo = self.awake.lock();
        if let Some((of, count)) = *memo
            && of == version
        {
            return count;
        }
        let ready = |sandbox: &Arc<Sandbox>| {
            let status = sandbox.status.as_ref();
            status.is_some_and(|status| status.phase.answers())
        };
        let count = self.all().into_iter().filter(ready).count();
        *memo = Some((version, count));
        count
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.cache.changes()
    }

    fn create(&self, new: NewSandbox) -> BoxFuture<'_, Result<Sandbox, ResourceError>> {
        async move { self.create_or_read(new).await.map_err(refusal) }.boxed()
    }

    fn set_lifecycle<'a>(
        &'a self,
        name: &'a str,
        lifecycle: &'a Lifecycle,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        async move {
            let patch = json!({"spec": {"lifecycle": lifecycle}, "metadata": {}});
            self.edit(name, Edit::Spec(patch)).await.map_err(refusal)
        }
        .boxed()
    }

    fn add_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a Bucket,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        async move {
            let add = |present: &[Bucket]| {
                let taken = present.iter().any(|other| other.name == bucket.name);
                (!taken).then(|| present.iter().chain([bucket]).cloned().collect())
            };
            self.edit(name, Edit::Buckets(&add)).await.map_err(refusal)
        }
        .boxed()
    }

    fn remove_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        async move {
            let remove = |present: &[Bucket]| {
                let left = present.iter().filter(|other| other.name != bucket);
                let left: Vec<_> = left.cloned().collect();
                (left.len() < present.len()).then_some(left)
            };
            self.edit(name, Edit::Buckets(&remove))
                .await
                .map_err(refusal)
        }
        .boxed()
    }

    fn record_activity<'a>(
        &'a self,
        name: &'a str,
        at: Timestamp,
        trace: Option<String>,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        async move {
            let mut status = json!({"lastActivity": at});
            // Server-side apply removes fields that are no longer sent, so leaving out
            // `traceparent` clears it.
            if let Some(trace) = trace {
                status["traceparent"] = trace.into();
            }
            self.edit(name, Edit::Status(status)).await.map_err(refusal)
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        async move {
            let deleted = self
                .writer
                .delete_with_dependents::<Sandbox>(&self.namespace, name, uid)
                .await;
            match deleted {
                Ok(()) => Ok(true),
                // A new sandbox of the same name must not be deleted.
                Err(Error::NotFound(_) | Error::Stale(_)) => Ok(false),
                Err(error) => Err(refusal(error)),
            }
        }
        .boxed()
    }
}
