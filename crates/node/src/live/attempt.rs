//! What was tried of one bucket in one container, and when it is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::Live;
use super::id::MountId;
use super::mount::Failure;
use super::status::Seen;
use crate::container::Container;
use hutch_api::Bucket;
use hutch_core::buckets::{self, reasons};

/// First and longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How often the Secret of a mounted bucket is looked at.
pub(super) const REKEY: Duration = Duration::from_secs(30);

/// The attempts at one bucket, as the spec has it now, in one container.
#[derive(Clone)]
pub struct Try {
    /// The spec's entry.
    pub digest: String,
    /// The container's id.
    pub container: String,
    /// Whether it has been mounted in that container.
    was: bool,
    /// Whether it is mounted.
    pub mounted: bool,
    /// Whether it was missing at the last look, though it is a volume of the pod.
    pub missing: bool,
    /// Whether it is mounted like any other here though the pod has a volume of its
    /// name, which somebody has unmounted in the container.
    pub instead: bool,
    /// When its Secret is looked at for other keys, where it is mounted.
    pub rekey: Instant,
    /// Why other keys that its Secret has are not used.
    pub stale: Option<(String, String)>,
    failures: u32,
    /// When it is tried again, where it is not mounted.
    pub next: Instant,
    /// What is to be said; nothing where nothing is known yet.
    pub seen: Option<Seen>,
}

impl Try {
    /// The first one, also after a change of the entry or the container.
    pub fn new(bucket: &Bucket, container: &str) -> Self {
        Self {
            digest: buckets::digest(bucket),
            container: container.to_owned(),
            was: false,
            mounted: false,
            missing: false,
            instead: false,
            rekey: Instant::now() + REKEY,
            stale: None,
            failures: 0,
            next: Instant::now(),
            seen: None,
        }
    }

    fn succeeded(&mut self) {
        self.was = true;
        self.mounted = true;
        self.failures = 0;
        self.rekey = Instant::now() + REKEY;
        self.stale = None;
    }

    /// What is to be said of it while it is mounted and answers.
    pub fn fine(&self) -> Seen {
        Seen {
            wrong: self.stale.clone(),
            ..Seen::mounted()
        }
    }

    fn failed(&mut self, seen: Seen) {
        self.mounted = false;
        let wait = RETRY
            .0
            .saturating_mul(1 << self.failures.min(8))
            .min(RETRY.1);
        self.next = Instant::now() + wait;
        self.failures += 1;
        self.seen = Some(seen);
    }
}

impl Live {
    /// Has a mounted bucket go on with the keys that its Secret has now; returns why
    /// it does not. A mount whose keys are refused is replaced also where it is in
    /// use: nothing comes through it any more.
    pub(super) async fn rekey(
        self,
        id: MountId,
        bucket: Bucket,
        inside: Container,
        refused: bool,
    ) -> Option<(String, String)> {
        match self.renew(&id, &bucket, inside, refused).await {
            Ok(true) => {
                tracing::info!(%id, "goes on with the Secret's new keys");
                self.0.health.answered(&id.to_string());
                None
            }
            Ok(false) | Err(Failure::Gone) => None,
            Err(Failure::Seen(seen)) if seen.reason() == reasons::BUSY => {
                tracing::debug!(%id, "new keys wait until the mount is not in use");
                None
            }
            Err(Failure::Seen(seen)) => {
                let (reason, error) = seen.wrong?;
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
        mut this: Try,
    ) -> Try {
        match self.mount(&id, &bucket, inside, this.was).await {
            Ok(()) => {
                tracing::info!(%id, "mounted");
                self.0.health.answered(&id.to_string());
                this.succeeded();
                this.seen = Some(Seen::mounted());
            }
            Err(Failure::Gone) => this.next = Instant::now() + RETRY.0,
            Err(Failure::Seen(seen)) => {
                let reason = seen.reason();
                tracing::info!(%id, reason, attempts = this.failures + 1, "not mounted");
                this.failed(seen);
            }
        }
        this
    }
}
