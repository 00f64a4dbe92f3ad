//! Builds the status entries of a sandbox's buckets. Pure: the time is an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::attempt::MountHistory;
use crate::Error;
use hutch_api::{BucketPhase, BucketStatus, Mechanism};
use hutch_core::reasons::Reason;

const MAX_ERROR_CHARS: usize = 300;

/// A failure as the status reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFailure {
    pub reason: Reason,
    pub text: String,
}

/// The observed state of a bucket of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub phase: BucketPhase,
    pub failure: Option<BucketFailure>,
}

impl Observation {
    /// The bucket is mounted and answers.
    pub const fn mounted() -> Self {
        Self {
            phase: BucketPhase::Mounted,
            failure: None,
        }
    }

    /// The bucket cannot be unmounted because a process uses it.
    pub fn busy(error: &Error) -> Self {
        Self::failure(BucketPhase::Busy, Reason::Busy, error.to_string())
    }

    /// The bucket is mounted but does not answer.
    pub fn not_answering(error: &Error) -> Self {
        Self::failure(BucketPhase::Degraded, error.reason(), error.to_string())
    }

    /// The bucket is a volume and does not answer.
    pub fn volume_not_answering(error: &Error) -> Self {
        let text = match error {
            Error::AccessDenied(_) => {
                format!(
                    "{error}; keys that its Secret has by now are used from the pod's next start"
                )
            }
            _ => error.to_string(),
        };
        Self::failure(BucketPhase::Degraded, error.reason(), text)
    }

    /// The bucket could not be mounted. `history` is from before the attempt.
    pub fn not_mounted(error: &Error, history: MountHistory) -> Self {
        let phase = if history == MountHistory::MountedBefore {
            BucketPhase::Degraded
        } else if error.needs_a_change() {
            BucketPhase::Failed
        } else {
            BucketPhase::Pending
        };
        Self::failure(phase, error.reason(), error.to_string())
    }

    /// The failure's reason.
    pub fn reason(&self) -> Option<Reason> {
        self.failure.as_ref().map(|failure| failure.reason)
    }

    /// A failure. A long text is cut.
    pub fn failure(phase: BucketPhase, reason: Reason, text: String) -> Self {
        let text = text.chars().take(MAX_ERROR_CHARS).collect();
        Self {
            phase,
            failure: Some(BucketFailure { reason, text }),
        }
    }
}

/// The fields of an entry that do not depend on an observation.
#[derive(Clone, Debug)]
pub struct EntryFields<'a> {
    pub name: &'a str,
    /// Digest of the spec's entry.
    pub digest: &'a str,
    /// The container's ID. `None` if no container runs yet.
    pub container: Option<&'a str>,
    pub mechanism: Mechanism,
}

/// Builds the entry of a bucket. It keeps `since` of the entry `before` if phase and container
/// are the same.
pub fn entry(
    fields: &EntryFields<'_>,
    observed: Observation,
    before: Option<&BucketStatus>,
    now: Timestamp,
) -> BucketStatus {
    let same = before.filter(|before| {
        before.phase == observed.phase && before.container_id.as_deref() == fields.container
    });
    let since = same.and_then(|before| before.since.clone());
    let failure = observed.failure;
    let failure = failure.map(|failure| (failure.reason.into(), failure.text));
    let (reason, error) = failure.unzip();
    BucketStatus {
        name: fields.name.to_owned(),
        phase: observed.phase,
        mechanism: Some(fields.mechanism),
        since: since.or(Some(Time(now))),
        last_check: Some(Time(now)),
        reason,
        error,
        container_id: fields.container.map(str::to_owned),
        digest: Some(fields.digest.to_owned()),
    }
}

/// True if a user could see a difference. The time of the last check does not count.
pub fn differ(before: &[BucketStatus], now: &[BucketStatus]) -> bool {
    let plain = |all: &[BucketStatus]| {
        let mut all = all.to_vec();
        for entry in &mut all {
            entry.last_check = None;
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    };
    plain(before) != plain(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(container: &str) -> EntryFields<'_> {
        EntryFields {
            name: "data",
            digest: "d",
            container: Some(container),
            mechanism: Mechanism::Live,
        }
    }

    #[test]
    fn since_is_kept_while_phase_and_container_stay_the_same() {
        let (first, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        let mounted = entry(&fields("c1"), Observation::mounted(), None, first);
        let again = entry(&fields("c1"), Observation::mounted(), Some(&mounted), later);
        assert_eq!(again.since, mounted.since);
        assert!(!differ(std::slice::from_ref(&mounted), &[again]));
        let moved = entry(&fields("c2"), Observation::mounted(), Some(&mounted), later);
        assert_eq!(moved.since, Some(Time(later)));
        let error = Error::Unreachable("x".into());
        let silent = Observation::not_answering(&error);
        let silent = entry(&fields("c1"), silent, Some(&mounted), later);
        assert_eq!(silent.phase, BucketPhase::Degraded);
        assert_eq!(silent.reason.as_deref(), Some("EndpointUnreachable"));
        assert!(differ(&[mounted], &[silent]));
    }

    #[test]
    fn a_failed_attempt_is_pending_failed_or_degraded() {
        let away = Error::Unreachable("x".into());
        let wrong = Error::AccessDenied("x".into());
        let phase = |error, history| Observation::not_mounted(error, history).phase;
        let (never, before) = (MountHistory::NeverMounted, MountHistory::MountedBefore);
        assert_eq!(phase(&away, never), BucketPhase::Pending);
        assert_eq!(phase(&wrong, never), BucketPhase::Failed);
        assert_eq!(phase(&wrong, before), BucketPhase::Degraded);
        assert_eq!(phase(&away, before), BucketPhase::Degraded);
    }
}
