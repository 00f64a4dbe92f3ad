//! Why volumes could not be mounted at their last attempt: noted by the door that the
//! kubelet comes through, told by the one that speaks of sandboxes. Kept for as long
//! as the process runs; the kubelet tries again, and so it is noted again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// Why a volume could not be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In one word, as a Sandbox's status has it.
    pub reason: String,
    /// For the user of the sandbox.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// The last refusal of each volume, by its handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<HashMap<String, Refusal>>>);

impl Refusals {
    /// Notes how an attempt ended.
    pub fn note(&self, handle: &str, refusal: Option<Refusal>) {
        match refusal {
            Some(refusal) => drop(self.all().insert(handle.to_owned(), refusal)),
            None => drop(self.all().remove(handle)),
        }
    }

    /// Why the volume could not be mounted since then.
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
    fn a_refusal_is_known_until_the_volume_is_mounted() {
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
