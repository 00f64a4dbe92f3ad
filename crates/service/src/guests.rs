//! Pods that somebody else made and labelled for conversations to work in. They
//! are used while they are there, and never made, woken, put to sleep or ended.

use tokio::time::{Instant, timeout_at};

use super::{Service, ServiceError};
use hutch_core::interfaces::{Guest, PodRef};

impl Service {
    /// The pod of that name, once its container runs, by `deadline`.
    pub(super) async fn guest(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<PodRef, ServiceError> {
        let mut changes = self.guests.changes();
        loop {
            changes.mark_unchanged();
            let why = match self.guests.get(name) {
                Some(Guest::Runs(pod)) => return Ok(pod),
                Some(Guest::Waits(why)) => why,
                None => return Err(ServiceError::Gone(name.to_owned())),
            };
            if timeout_at(deadline, changes.changed()).await.is_err() {
                let waited = self.settings.ready_timeout;
                return Err(ServiceError::NotReady { waited, why });
            }
        }
    }
}
