//! Looks at every mount every 10 s, at the S3 service behind it every minute, and
//! again at every look while it does not answer. A mount that hangs keeps no other
//! from being looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::id::MountId;
use crate::node::mounts::Health as State;
use crate::node::{Error, Mounts};

const EVERY: Duration = Duration::from_secs(10);
/// Every so many looks the S3 service is asked, too.
const REMOTE: u64 = 6;
/// Changes that a slow listener may fall behind by.
const BACKLOG: usize = 256;

/// The health of all mounts of the live door. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    mounts: Mounts,
    ill: Arc<Mutex<HashMap<String, Error>>>,
    changes: broadcast::Sender<String>,
}

impl Health {
    pub fn new(mounts: Mounts) -> Self {
        Self {
            mounts,
            ill: Arc::default(),
            changes: broadcast::Sender::new(BACKLOG),
        }
    }

    /// Ids of mounts that fell ill, died or recovered.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// What is wrong with a mount that does not answer.
    pub fn ill(&self, id: &str) -> Option<Error> {
        self.all().get(id).cloned()
    }

    /// Looks at every mount for ever.
    pub async fn keep(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 1.. {
            ticks.tick().await;
            let ids = self.mounts.ids();
            self.all().retain(|id, _| ids.contains(id));
            for id in ids.into_iter().filter(|id| MountId::parse(id).is_some()) {
                let remote = look % REMOTE == 0 || self.ill(&id).is_some();
                tokio::spawn(self.clone().look_at(id, remote));
            }
        }
    }

    async fn look_at(self, id: String, remote: bool) {
        let state = self.mounts.check(&id, remote).await;
        let changed = match state {
            State::Fine => self.all().remove(&id).is_some(),
            State::Dead => {
                self.all().remove(&id);
                true
            }
            State::Ill(error) => self.all().insert(id.clone(), error.clone()) != Some(error),
        };
        if changed {
            // Without a listener there is nobody to tell.
            let _ = self.changes.send(id);
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Error>> {
        self.ill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
