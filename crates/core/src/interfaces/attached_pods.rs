//! Pods that a user created and labelled for Hutch to run commands in. Hutch never creates,
//! changes or deletes one.

use futures::future::BoxFuture;

use super::{PodRef, ResourceError};

/// An attached pod, from the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachedPod {
    /// Its container runs.
    Runs(PodRef),
    /// Its container does not run now. The text says why.
    Waits(String),
}

/// The attached pods of one namespace.
pub trait AttachedPods: Send + Sync {
    /// The attached pod of that name, if it is not ending and has not ended.
    fn get(&self, name: &str) -> Option<AttachedPod>;

    /// True if the API server has such a pod now. `name` may be any text.
    fn exists<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// A counter that grows with every change of any attached pod. 0 until the cache has its
    /// first listing.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
