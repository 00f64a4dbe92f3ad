//! The reasons why volumes could not be mounted at the last attempt. The CSI driver records
//! them and `live` reports them in the sandbox's status. They are kept in memory only: the
//! kubelet tries again, so a new process records them again.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use hutch_core::reasons::Reason;
use hutch_core::sync::Lock;

/// The reason why a volume could not be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason as in the sandbox's status.
    pub reason: Reason,
    /// Error text for the sandbox's user.
    pub text: String,
    /// Time of the attempt.
    pub at: Timestamp,
}

/// The last refusal of each volume, by volume handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Lock<HashMap<String, Refusal>>>);

impl Refusals {
    /// Records the result of an attempt. `None` means success.
    pub fn record(&self, handle: &str, refusal: Option<Refusal>) {
        let mut all = self.0.lock();
        match refusal {
            Some(refusal) => drop(all.insert(handle.to_owned(), refusal)),
            None => drop(all.remove(handle)),
        }
    }

    /// The volume's refusal, if it is not older than `time`.
    pub fn since(&self, handle: &str, time: Timestamp) -> Option<Refusal> {
        let last = self.0.lock().get(handle).cloned();
        last.filter(|refusal| refusal.at >= time)
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
            reason: Reason::AccessDenied,
            text: "no".into(),
            at: first,
        };
        all.record("bucket/a", Some(refusal.clone()));
        assert_eq!(all.since("bucket/a", first), Some(refusal));
        assert_eq!(all.since("bucket/a", later), None, "of an earlier pod");
        assert_eq!(all.since("bucket", first), None);
        all.record("bucket/a", None);
        assert_eq!(all.since("bucket/a", first), None);
    }
}
