//! The attempts to mount one bucket in one container, and the time of the next one.

use std::time::Duration;

use tokio::time::Instant;

use super::Live;
use super::id::MountId;
use super::mount::Failure;
use super::status::Observation;
use crate::container::Container;
use crate::mounts::InUse;
use hutch_api::Bucket;
use hutch_core::buckets::{self, reasons};

/// Wait after the first failed attempt. It doubles with each further failure.
const MIN_RETRY: Duration = Duration::from_secs(1);
/// Longest wait between two attempts.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// How often the Secret of a mounted bucket is checked for other credentials.
pub(super) const REKEY_INTERVAL: Duration = Duration::from_secs(30);

/// The stage of a live mount in one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// No attempt has succeeded in this container.
    NeverMounted,
    /// The last attempt succeeded. Its mounter may have died since.
    Mounted,
    /// An attempt succeeded earlier, and the last one failed.
    Lost,
}

impl AttemptState {
    /// True if it has ever been mounted in this container.
    pub fn was_mounted(self) -> bool {
        self != Self::NeverMounted
    }
}

/// The volume of a bucket that is a volume of the pod. A live bucket stays at `Expected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// It was mounted at the last look, or nobody has looked yet.
    Expected,
    /// It was not mounted at the last look.
    Missing,
    /// Somebody has unmounted it in the container. The bucket is a live mount instead until
    /// the entry or the container changes.
    ReplacedByLiveMount,
}

/// The attempts to mount one entry of the spec in one container.
#[derive(Clone)]
pub struct MountAttempt {
    /// Digest of the spec's entry.
    pub digest: String,
    /// The container's ID.
    pub container: String,
    state: AttemptState,
    pub volume: VolumeState,
    /// If mounted: when its Secret is checked for other credentials.
    pub rekey: Instant,
    /// Reason and text why other credentials in its Secret are not used.
    pub rekey_failure: Option<(String, String)>,
    failures: u32,
    /// If not mounted: the time of the next attempt.
    pub next: Instant,
    /// The observation to report. `None` if there is none yet.
    pub observed: Option<Observation>,
}

impl MountAttempt {
    /// The state before the first attempt. A change of the entry or the container starts
    /// anew.
    pub fn new(bucket: &Bucket, container: &str) -> Self {
        Self {
            digest: buckets::digest(bucket),
            container: container.to_owned(),
            state: AttemptState::NeverMounted,
            volume: VolumeState::Expected,
            rekey: Instant::now() + REKEY_INTERVAL,
            rekey_failure: None,
            failures: 0,
            next: Instant::now(),
            observed: None,
        }
    }

    /// True if both are for the same entry of the spec in the same container.
    pub fn is_for(&self, other: &Self) -> bool {
        self.digest == other.digest && self.container == other.container
    }

    /// True if the last attempt succeeded.
    pub fn is_mounted(&self) -> bool {
        self.state == AttemptState::Mounted
    }

    /// The observation of a mount that answers.
    pub fn healthy(&self) -> Observation {
        Observation {
            failure: self.rekey_failure.clone(),
            ..Observation::mounted()
        }
    }

    fn succeeded(&mut self) {
        self.state = AttemptState::Mounted;
        self.failures = 0;
        self.rekey = Instant::now() + REKEY_INTERVAL;
        self.rekey_failure = None;
    }

    fn failed(&mut self, observed: Observation) {
        if self.state == AttemptState::Mounted {
            self.state = AttemptState::Lost;
        }
        let wait = MIN_RETRY
            .saturating_mul(1 << self.failures.min(8))
            .min(MAX_RETRY);
        self.next = Instant::now() + wait;
        self.failures += 1;
        self.observed = Some(observed);
    }
}

impl Live {
    /// Replaces a mounted bucket's credentials with those that its Secret has now. Returns
    /// the reason and text if they are not used.
    pub(super) async fn rekey(
        self,
        id: MountId,
        bucket: Bucket,
        inside: Container,
        in_use: InUse,
    ) -> Option<(String, String)> {
        match self.renew(&id, &bucket, inside, in_use).await {
            Ok(true) => {
                tracing::info!(%id, "goes on with the Secret's new keys");
                self.0.health.answered(&id.to_string());
                None
            }
            Ok(false) | Err(Failure::Gone) => None,
            Err(Failure::Observed(observed)) if observed.reason() == reasons::BUSY => {
                tracing::debug!(%id, "new keys wait until the mount is not in use");
                None
            }
            Err(Failure::Observed(observed)) => {
                let (reason, error) = observed.failure?;
                let text = format!("it goes on with the keys that it has: {error}");
                Some((reason, text))
            }
        }
    }

    /// Tries to mount the bucket in the container.
    pub(super) async fn attempt(
        self,
        id: MountId,
        bucket: Bucket,
        inside: Container,
        mut attempt: MountAttempt,
    ) -> MountAttempt {
        match self.mount(&id, &bucket, inside, attempt.state).await {
            Ok(()) => {
                tracing::info!(%id, "mounted");
                self.0.health.answered(&id.to_string());
                attempt.succeeded();
                attempt.observed = Some(Observation::mounted());
            }
            Err(Failure::Gone) => attempt.next = Instant::now() + MIN_RETRY,
            Err(Failure::Observed(observed)) => {
                let reason = observed.reason();
                tracing::info!(%id, reason, attempts = attempt.failures + 1, "not mounted");
                attempt.failed(observed);
            }
        }
        attempt
    }
}
