//! The custom resources of one namespace: read from caches that watches keep
//! current, written in the name of the facade.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use thiserror::Error;

use crate::buckets::S3Credentials;
use hutch_api::{Bucket, Lifecycle, Sandbox, SandboxSession, SandboxSpec, SecretRef};

/// Why a resource could not be read or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResourceError {
    /// The API server refuses the object; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The service may not do this.
    #[error("the cluster does not allow it: {0}")]
    Forbidden(String),
    /// Not now; the same may work later.
    #[error("the cluster cannot be reached: {0}")]
    Unavailable(String),
}

/// A sandbox to be created.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// Name of the resource.
    pub name: String,
    /// Annotations that say whose it is.
    pub notes: BTreeMap<&'static str, String>,
    /// What it is to be.
    pub spec: SandboxSpec,
}

/// The Sandbox resources of one namespace, read from a cache that a watch keeps
/// current.
pub trait Sandboxes: Send + Sync {
    /// The sandbox of that name, as the cache has it.
    fn get(&self, name: &str) -> Option<Arc<Sandbox>>;

    /// The sandbox of that name, as the API server has it now. Any text is a name.
    fn fetch<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>>;

    /// The sandbox of that UID, as the API server has it now.
    fn fetch_by_uid<'a>(
        &'a self,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>>;

    /// All of them, as the cache has it.
    fn all(&self) -> Vec<Arc<Sandbox>>;

    /// How many there are, as the cache has it.
    fn count(&self) -> usize;

    /// How many of them answer commands, as the cache has it.
    fn awake(&self) -> usize;

    /// Resolves at the next change of any sandbox after `changes` was made, and
    /// at every one after it. Its value is 0 until the cache has been filled once.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Creates the sandbox, or returns the one that has its name.
    fn create(&self, new: NewSandbox) -> BoxFuture<'_, Result<Sandbox, ResourceError>>;

    /// Sets the sandbox's lifecycle; `false` where it does not exist.
    fn set_lifecycle<'a>(
        &'a self,
        name: &'a str,
        lifecycle: &'a Lifecycle,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Adds a bucket to the sandbox's spec; `false` where the sandbox does not
    /// exist, or has a bucket of that name.
    fn add_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a Bucket,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Takes the bucket of that name out of the sandbox's spec; `false` where
    /// there is none.
    fn remove_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Records that the sandbox was in use at `at`, and as a part of which trace it
    /// wakes, if it does; `false` where it does not exist.
    fn record_activity<'a>(
        &'a self,
        name: &'a str,
        at: Timestamp,
        trace: Option<String>,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Deletes the sandbox with that UID, after everything that belongs to it;
    /// `false` where it does not exist.
    fn delete<'a>(
        &'a self,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>>;
}

/// What a SandboxSession tells of a session that lives in an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its working directory.
    pub cwd: String,
    /// When it was last used.
    pub used: Timestamp,
}

/// The SandboxSession resources of the same namespace.
pub trait SessionRecords: Send + Sync {
    /// Changes its value after every change of any of them; 0 until the cache has
    /// been filled once.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The resource that stands for a session, as the cache has it: of several,
    /// the oldest. One that is ending is none.
    fn find(&self, sandbox: &str, id: &str) -> Option<Arc<SandboxSession>>;

    /// Makes the resource of a session that its agent has, owned by the sandbox;
    /// none where another has its name, which may be one that is ending.
    fn create<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SandboxSession>, ResourceError>>;

    /// Writes what is known of the session, where the resource still exists.
    fn record<'a>(
        &'a self,
        session: &'a SandboxSession,
        record: &'a SessionRecord,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;

    /// Deletes the resource that was seen, and no other of its name.
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
