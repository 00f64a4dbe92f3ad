//! Pods that somebody else made, and labelled for Hutch to work in. They are
//! theirs: nothing here makes, changes or ends one.

use futures::future::BoxFuture;

use super::{PodRef, ResourceError};

/// Such a pod, as the cache has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guest {
    /// Its container runs.
    Runs(PodRef),
    /// Not yet, or not at this moment, and why.
    Waits(String),
}

/// The labelled pods of one namespace.
pub trait Guests: Send + Sync {
    /// The pod of that name, if it is one, neither ends nor has ended.
    fn get(&self, name: &str) -> Option<Guest>;

    /// Whether there is such a pod, as the API server has it now. Any text is a name.
    fn exists<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>>;

    /// Changes its value after every change of any of them; 0 until the cache has
    /// been filled once.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
