//! What is said of a sandbox's buckets. Pure: the time is an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Error;
use hutch_api::{BucketPhase, BucketStatus, Mechanism};
use hutch_core::buckets::reasons;

/// Longest text of an error, in characters.
const TEXT: usize = 300;

/// How a bucket of the spec is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub phase: BucketPhase,
    /// Reason and text of what is wrong.
    pub wrong: Option<(String, String)>,
}

impl Seen {
    /// It is mounted and answers.
    pub const fn mounted() -> Self {
        Self {
            phase: BucketPhase::Mounted,
            wrong: None,
        }
    }

    /// It is in the way of its own removal.
    pub fn busy(error: &Error) -> Self {
        Self::wrong(BucketPhase::Busy, reasons::BUSY, error.to_string())
    }

    /// It is mounted, and does not answer.
    pub fn ill(error: &Error) -> Self {
        Self::wrong(BucketPhase::Degraded, error.reason(), error.to_string())
    }

    /// It is a volume, and does not answer.
    pub fn ill_volume(error: &Error) -> Self {
        let text = match error {
            Error::AccessDenied(_) => {
                format!(
                    "{error}; keys that its Secret has by now are used from the pod's next start"
                )
            }
            _ => error.to_string(),
        };
        Self::wrong(BucketPhase::Degraded, error.reason(), text)
    }

    /// It could not be mounted; `was` says whether it has been in this container.
    pub fn failed(error: &Error, was: bool) -> Self {
        let phase = match (was, error.needs_a_change()) {
            (true, _) => BucketPhase::Degraded,
            (false, true) => BucketPhase::Failed,
            (false, false) => BucketPhase::Pending,
        };
        Self::wrong(phase, error.reason(), error.to_string())
    }

    /// What is wrong, in one word.
    pub fn reason(&self) -> &str {
        self.wrong.as_ref().map_or("", |(reason, _)| reason)
    }

    /// Anything else that is wrong.
    pub fn wrong(phase: BucketPhase, reason: &str, text: String) -> Self {
        let text = text.chars().take(TEXT).collect();
        Self {
            phase,
            wrong: Some((reason.to_owned(), text)),
        }
    }
}

/// The bucket that an entry speaks of, and of which of its states.
#[derive(Clone, Debug)]
pub struct About<'a> {
    pub name: &'a str,
    pub digest: &'a str,
    /// None where none runs yet.
    pub container: Option<&'a str>,
    pub mechanism: Mechanism,
}

/// The entry of a bucket; what it was before decides since when it is so.
pub fn entry(
    about: &About<'_>,
    seen: Seen,
    before: Option<&BucketStatus>,
    now: Timestamp,
) -> BucketStatus {
    let same = before.filter(|before| {
        before.phase == seen.phase && before.container_id.as_deref() == about.container
    });
    let since = same.and_then(|before| before.since.clone());
    let (reason, error) = seen.wrong.unzip();
    BucketStatus {
        name: about.name.to_owned(),
        phase: seen.phase,
        mechanism: Some(about.mechanism),
        since: since.or(Some(Time(now))),
        last_check: Some(Time(now)),
        reason,
        error,
        container_id: about.container.map(str::to_owned),
        digest: Some(about.digest.to_owned()),
    }
}

/// Whether a user could see a difference: when it was looked at is none.
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

    fn about(container: &str) -> About<'_> {
        About {
            name: "data",
            digest: "d",
            container: Some(container),
            mechanism: Mechanism::Live,
        }
    }

    #[test]
    fn since_is_kept_as_long_as_phase_and_container_are() {
        let (first, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        let mounted = entry(&about("c1"), Seen::mounted(), None, first);
        let again = entry(&about("c1"), Seen::mounted(), Some(&mounted), later);
        assert_eq!(again.since, mounted.since);
        assert!(!differ(std::slice::from_ref(&mounted), &[again]));
        let moved = entry(&about("c2"), Seen::mounted(), Some(&mounted), later);
        assert_eq!(moved.since, Some(Time(later)));
        let error = Error::Unreachable("x".into());
        let ill = entry(&about("c1"), Seen::ill(&error), Some(&mounted), later);
        assert_eq!(ill.phase, BucketPhase::Degraded);
        assert_eq!(ill.reason.as_deref(), Some("EndpointUnreachable"));
        assert!(differ(&[mounted], &[ill]));
    }

    #[test]
    fn what_fails_is_pending_failed_or_degraded() {
        let away = Error::Unreachable("x".into());
        let wrong = Error::AccessDenied("x".into());
        assert_eq!(Seen::failed(&away, false).phase, BucketPhase::Pending);
        assert_eq!(Seen::failed(&wrong, false).phase, BucketPhase::Failed);
        assert_eq!(Seen::failed(&wrong, true).phase, BucketPhase::Degraded);
    }
}
