//! Pods that somebody else made, and labelled for Hutch to work in. They are
//! theirs: nothing here makes, changes or ends one.

use super::PodRef;

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

    /// Changes its value after every change of any of them.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
