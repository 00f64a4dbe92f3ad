//! The reasons why volumes could not be mounted at the last attempt. The CSI driver records
//! them and `live` reports them in the sandbox's status. They are kept in memory only: the
//! kubelet tries again, so a new process records them again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// Why a volume could not be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason as in the sandbox's status.
    pub reason: String,
    /// Error text for the sandbox's user.
    pub text: String,
    /// Time of the attempt.
    pub at: Timestamp,
}

/// The last refusal of each volume, by volume handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<HashMap<String, Refusal>>>);

impl Refusals {
    /// Records the result of an attempt. `None` means success.
    pub fn note(&self, handle: &str, refusal: Option<Refusal>) {
        match refusal {
            Some(refusal) => drop(self.all().insert(handle.to_owned(), refusal)),
            None => drop(self.all().remove(handle)),
        }
    }

    /// The volume's refusal, if it is not older than `time`.
    pub fn since(&self, handle: &str, time: Timestamp) -> Option<Refusal> {
        let known = self.all().get(handle).cloned();
        known.filter(|refusal| refusal.at >= time)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_kept_until_the_volume_is_mounted() {
        let (all, first) = (Refusals::default(), Timestamp::UNIX_EPOCH);
        let later = Timestamp::from_second(9).unwrap();
        let refusal = Refusal {
            reason: "AccessDenied".into(),
            text: "no".into(),
            at: first,
        };
        all.note("bucket/a", Some(refusal.clone()));
        assert_eq!(all.since("bucket/a", first), Some(refusal));
        assert_eq!(all.since("bucket/a", later), None, "of an earlier pod");
        assert_eq!(all.since("bucket", first), None);
        all.note("bucket/a", None);
        assert_eq!(all.since("bucket/a", first), None);
    }
}
