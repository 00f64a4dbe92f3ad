//! Pods that a user created and labelled for Hutch to run commands in. Hutch never creates,
//! changes or deletes one.

use futures::future::BoxFuture;

use super::{PodRef, ResourceError};

/// Such a pod, as the cache has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachedPod {
    /// Its container runs.
    Runs(PodRef),
    /// Not yet, or not at this moment, and why.
    Waits(String),
}

/// The labelled pods of one namespace.
pub trait AttachedPods: Send + Sync {
    /// The pod of that name, if it is one, neither ends nor has ended.
    fn get(&self, name: &str) -> Option<AttachedPod>;

    /// Whether there is such a pod, as the API server has it now. Any text is a name.
    fn exists<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Changes its value after every change of any of them; 0 until the cache has
    /// been filled once.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
