//! Pods that somebody else created and labelled for conversations to work in. Hutch
//! uses them while they exist. It never creates, wakes, suspends or deletes one.

use tokio::time::{Instant, timeout_at};

use super::Acquirer;
use crate::ServiceError;
use hutch_core::interfaces::{AttachedPod, PodRef};

impl Acquirer {
    /// Waits until the container of the pod runs, at most until `deadline`.
    pub(super) async fn attached_pod(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<PodRef, ServiceError> {
        let mut changes = self.attached_pods.changes();
        loop {
            changes.mark_unchanged();
            let why = match self.attached_pods.get(name) {
                Some(AttachedPod::Runs(pod)) => return Ok(pod),
                Some(AttachedPod::Waits(why)) => why,
                None => return Err(ServiceError::Gone(name.to_owned())),
            };
            if timeout_at(deadline, changes.changed()).await.is_err() {
                let waited = self.ready_timeout;
                return Err(ServiceError::NotReady { waited, why });
            }
        }
    }
}
