//! What is known of a mount without touching it.

use super::{Mounts, Place};
use crate::Source;

/// A mount, as it was a moment ago.
#[derive(Clone, Debug)]
pub struct Known {
    /// Whether there is a mounter that has answered and runs.
    pub lives: bool,
    /// What it is called as a mount's source, by every process that sees it.
    pub label: String,
    /// Device number of its file system.
    pub device: String,
    /// Where clones of it are, or were before its mounter died.
    pub places: Vec<Place>,
    digest: String,
}

impl Known {
    /// Whether it is a mount of that very source, credentials included.
    pub fn is_of(&self, source: &Source) -> bool {
        self.digest == source.digest()
    }
}

impl Mounts {
    /// What is known under that id. Waits for whoever changes it just now.
    pub async fn look(&self, id: &str) -> Option<Known> {
        let slot = self.known(id)?;
        let record = slot.record.lock().await.clone();
        Some(Known {
            lives: record.lives(),
            label: record.label(),
            device: record.device,
            places: record
                .places
                .into_iter()
                .map(|placed| placed.place)
                .collect(),
            digest: record.digest,
        })
    }
}
