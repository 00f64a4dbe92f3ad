//! The custom resources of one namespace, as the facade uses them. Reads come from caches that
//! watches keep current.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use thiserror::Error;

use crate::s3::S3Credentials;
use hutch_api::{Bucket, Lifecycle, Sandbox, SandboxSession, SandboxSpec, SecretRef};

/// The reason why a resource could not be read or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResourceError {
    /// The API server rejects the object. The text says why.
    #[error("{0}")]
    Invalid(String),
    /// The facade lacks a permission.
    #[error("the cluster does not allow it: {0}")]
    Forbidden(String),
    /// The API server is not available. A retry may succeed.
    #[error("the cluster cannot be reached: {0}")]
    Unavailable(String),
}

/// A sandbox to create.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// Name of the resource.
    pub name: String,
    /// Annotations that name its owner.
    pub notes: BTreeMap<&'static str, String>,
    /// Its spec.
    pub spec: SandboxSpec,
}

/// The Sandbox resources of one namespace.
pub trait Sandboxes: Send + Sync {
    /// The sandbox of that name, from the cache.
    fn get(&self, name: &str) -> Option<Arc<Sandbox>>;

    /// True if there is a sandbox of that name that does not decode. `get` returns its last
    /// version that did decode, or nothing. It must not count as deleted.
    fn is_unreadable(&self, name: &str) -> bool;

    /// The sandbox of that name, from the API server. `name` may be any text.
    fn fetch<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>>;

    /// The sandbox with that UID, from the API server.
    fn fetch_by_uid<'a>(
        &'a self,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>>;

    /// All sandboxes, from the cache.
    fn all(&self) -> Vec<Arc<Sandbox>>;

    /// The number of sandboxes in the cache that answer commands.
    fn awake(&self) -> usize;

    /// A counter that grows with every change of any sandbox. 0 until the cache has its first
    /// listing.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Creates the sandbox, or returns the existing one of that name.
    fn create(&self, new: NewSandbox) -> BoxFuture<'_, Result<Sandbox, ResourceError>>;

    /// Sets the sandbox's lifecycle. Returns false if the sandbox does not exist.
    fn set_lifecycle<'a>(
        &'a self,
        name: &'a str,
        lifecycle: &'a Lifecycle,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Adds a bucket to the sandbox's spec. Returns false if the sandbox does not exist, or has
    /// a bucket of that name.
    fn add_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a Bucket,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Removes the bucket of that name from the sandbox's spec. Returns false if there is none.
    fn remove_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Records that the sandbox was in use at `at`. If that wakes it, `trace` is the trace that
    /// the wake belongs to. Returns false if the sandbox does not exist.
    fn record_activity<'a>(
        &'a self,
        name: &'a str,
        at: Timestamp,
        trace: Option<String>,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Deletes the sandbox with that UID after all objects that it owns. Returns false if it
    /// does not exist.
    fn delete<'a>(
        &'a self,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;
}

/// The part of a SandboxSession's status that comes from the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its working directory.
    pub cwd: String,
    /// Time of its last use.
    pub used: Timestamp,
}

/// The SandboxSession resources of one namespace.
pub trait SessionRecords: Send + Sync {
    /// A counter that grows with every change of any SandboxSession. 0 until the cache has its
    /// first listing.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The SandboxSession of a session, from the cache. If there are several, the oldest. One
    /// that is being deleted does not count.
    fn find(&self, sandbox: &str, id: &str) -> Option<Arc<SandboxSession>>;

    /// Creates the SandboxSession of a session that the agent has. The sandbox owns it. Returns
    /// `None` if its name is taken, maybe by one that is being deleted.
    fn create<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SandboxSession>, ResourceError>>;

    /// Writes the state of the session, if its SandboxSession still exists.
    fn record<'a>(
        &'a self,
        session: &'a SandboxSession,
        record: &'a SessionRecord,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;

    /// Deletes this SandboxSession, and no other one of the same name.
    fn delete<'a>(
        &'a self,
        session: &'a SandboxSession,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;
}

/// The Secrets with the S3 credentials of buckets that are mounted at run time. They are
/// in the operator's namespace, which has no sandboxes.
pub trait S3Secrets: Send + Sync {
    /// Stores the credentials for that bucket of the sandbox in a new Secret.
    fn create<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        bucket: &'a str,
        credentials: &'a S3Credentials,
    ) -> BoxFuture<'a, Result<SecretRef, ResourceError>>;

    /// Deletes a Secret that was created for this sandbox. Any other Secret is left alone.
    fn delete<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        secret: &'a SecretRef,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;
}
