//! The state of one bucket of the spec in one container, and its transitions. Pure: the time
//! is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::status::{BucketFailure, Observation};
use hutch_core::backoff::Backoff;

/// Wait after the first failed attempt.
const MIN_RETRY: Duration = Duration::from_secs(1);
/// Wait before the next attempt. It doubles with each failure.
const RETRY: Backoff = Backoff::new(MIN_RETRY, Duration::from_secs(30));

/// Interval of the checks of a mounted bucket's Secret for other credentials.
pub const REKEY_INTERVAL: Duration = Duration::from_secs(30);

/// One entry of the spec in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryKey {
    /// Digest of the spec's entry.
    pub digest: String,
    /// The container's ID.
    pub container: String,
}

/// The attempts to mount one entry of the spec in one container. A change of the entry or
/// the container starts a new one.
pub struct MountAttempt {
    pub entry: EntryKey,
    /// The earliest time of the next attempt to mount the bucket.
    next: Instant,
    state: AttemptState,
}

/// The stage of a bucket. A live mount begins with `Pending`, a volume of the pod with
/// `Volume`.
#[derive(Debug, PartialEq, Eq)]
enum AttemptState {
    /// It is a volume of the pod.
    Volume {
        sight: LastSight,
        observed: Option<Observation>,
    },
    /// It is a live mount, and no attempt has ended yet. If it replaces a volume, `observed`
    /// is the last observation of that volume.
    Pending { observed: Option<Observation> },
    /// The last attempt failed.
    Failed {
        history: MountHistory,
        /// Failures in a row.
        failures: u32,
        observed: Observation,
    },
    /// The last attempt succeeded. Its mounter may have died since.
    Mounted {
        /// The time of the next check of its Secret for other credentials.
        rekey: Instant,
        /// The reason why other credentials in its Secret are not used.
        rekey_failure: Option<BucketFailure>,
        observed: Observation,
    },
}

/// The past of a live mount in one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountHistory {
    NeverMounted,
    MountedBefore,
}

/// The result of the last look at a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastSight {
    /// It was mounted, or nobody has looked yet.
    Mounted,
    Missing,
}

/// The result of a look at a volume's path in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeSight {
    Mounted,
    Missing,
    /// The bucket is there as a live mount.
    LiveMount,
}

impl MountAttempt {
    /// A live mount before its first attempt, which is due now.
    pub fn live(entry: EntryKey, now: Instant) -> Self {
        Self {
            entry,
            next: now,
            state: AttemptState::Pending { observed: None },
        }
    }

    /// A volume of the pod before the first look at it.
    pub fn volume(entry: EntryKey, now: Instant) -> Self {
        let state = AttemptState::Volume {
            sight: LastSight::Mounted,
            observed: None,
        };
        Self {
            entry,
            next: now,
            state,
        }
    }

    /// True if the bucket is a volume of the pod and no live mount has replaced it.
    pub fn is_volume(&self) -> bool {
        matches!(self.state, AttemptState::Volume { .. })
    }

    /// True if it is a live mount and the last attempt succeeded.
    pub fn is_mounted(&self) -> bool {
        matches!(self.state, AttemptState::Mounted { .. })
    }

    /// True if the volume was missing at the last look.
    pub fn is_missing(&self) -> bool {
        let AttemptState::Volume { sight, .. } = &self.state else {
            return false;
        };
        *sight == LastSight::Missing
    }

    /// The time until the next attempt may start.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// The observation to report. `None` if there is none yet.
    pub fn observed(&self) -> Option<&Observation> {
        match &self.state {
            AttemptState::Volume { observed, .. } | AttemptState::Pending { observed } => {
                observed.as_ref()
            }
            AttemptState::Failed { observed, .. } | AttemptState::Mounted { observed, .. } => {
                Some(observed)
            }
        }
    }

    /// The past of the live mount before the next attempt.
    pub fn history(&self) -> MountHistory {
        match self.state {
            AttemptState::Volume { .. } | AttemptState::Pending { .. } => {
                MountHistory::NeverMounted
            }
            AttemptState::Failed { history, .. } => history,
            AttemptState::Mounted { .. } => MountHistory::MountedBefore,
        }
    }

    /// Records a look at the volume. A volume that is missing at two looks in a row was
    /// unmounted in the container. The bucket is then a live mount until the entry or the
    /// container changes, and its first attempt is due.
    pub fn see_volume(&mut self, seen: VolumeSight) {
        let AttemptState::Volume { sight, observed } = &mut self.state else {
            return;
        };
        match (seen, *sight) {
            (VolumeSight::Mounted, _) => *sight = LastSight::Mounted,
            (VolumeSight::Missing, LastSight::Mounted) => *sight = LastSight::Missing,
            (VolumeSight::Missing, LastSight::Missing) | (VolumeSight::LiveMount, _) => {
                let observed = observed.take();
                self.state = AttemptState::Pending { observed };
            }
        }
    }

    /// Records that a volume or a mounted bucket answers.
    pub fn answers(&mut self) {
        self.observe(Observation::mounted());
    }

    /// Records a check of a volume or a mounted bucket. A failure to use other credentials
    /// is reported as long as the bucket answers.
    pub fn observe(&mut self, seen: Observation) {
        match &mut self.state {
            AttemptState::Volume { observed, .. } => *observed = Some(seen),
            AttemptState::Mounted {
                observed,
                rekey_failure,
                ..
            } => {
                *observed = Observation {
                    failure: seen.failure.or_else(|| rekey_failure.clone()),
                    ..seen
                };
            }
            AttemptState::Pending { .. } | AttemptState::Failed { .. } => {}
        }
    }

    /// True if it is mounted and its Secret is to be checked now, or within `early`. The next
    /// check is due after the whole interval.
    pub fn take_rekey(&mut self, now: Instant, early: Duration) -> bool {
        match &mut self.state {
            AttemptState::Mounted { rekey, .. } if *rekey <= now + early => {
                *rekey = now + REKEY_INTERVAL;
                true
            }
            _ => false,
        }
    }

    /// Records the result of a check of the Secret.
    pub fn rekeyed(&mut self, failure: Option<BucketFailure>) {
        if let AttemptState::Mounted { rekey_failure, .. } = &mut self.state {
            *rekey_failure = failure;
        }
    }

    /// Records that an attempt has succeeded.
    pub fn mounted(&mut self, now: Instant) {
        self.state = AttemptState::Mounted {
            rekey: now + REKEY_INTERVAL,
            rekey_failure: None,
            observed: Observation::mounted(),
        };
    }

    /// Records that an attempt has failed. Returns the number of failures in a row.
    pub fn failed(&mut self, now: Instant, observed: Observation) -> u32 {
        let before = match self.state {
            AttemptState::Failed { failures, .. } => failures,
            _ => 0,
        };
        let failures = before.saturating_add(1);
        self.next = now + RETRY.after(failures);
        self.state = AttemptState::Failed {
            history: self.history(),
            failures,
            observed,
        };
        failures
    }

    /// Records that the container ended during an attempt. That is no failure.
    pub fn container_gone(&mut self, now: Instant) {
        self.next = now + MIN_RETRY;
    }
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
