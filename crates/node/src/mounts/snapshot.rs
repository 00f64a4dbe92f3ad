//! A copy of a mount's record, for readers.

use super::{MountTarget, Mounts};
use crate::Source;

/// A mount at one moment. It may have changed since.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// True if its mounter has answered and runs.
    pub alive: bool,
    /// The mount's source in `mountinfo`, the same in all namespaces.
    pub label: String,
    /// Device number of its file system.
    pub device: String,
    /// The targets with a clone of it. They stay after its mounter has died.
    pub targets: Vec<MountTarget>,
    digest: String,
}

impl Snapshot {
    /// True if it is a mount of this source with the same credentials.
    pub fn is_of(&self, source: &Source) -> bool {
        self.digest == source.digest()
    }
}

impl Mounts {
    /// A snapshot of the mount. It waits for a change in progress.
    pub async fn snapshot(&self, id: &str) -> Option<Snapshot> {
        let slot = self.get(id)?;
        let record = slot.record.lock().await.clone();
        Some(Snapshot {
            alive: record.is_alive(),
            label: record.label(),
            device: record.device,
            targets: record
                .attachments
                .into_iter()
                .map(|attachment| attachment.target)
                .collect(),
            digest: record.digest,
        })
    }
}
