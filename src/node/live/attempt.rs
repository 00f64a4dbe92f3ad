//! What was tried of one bucket in one container, and when it is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::Live;
use super::id::MountId;
use super::mount::Failure;
use super::status::Seen;
use crate::crd::Bucket;
use crate::domain::buckets;
use crate::node::container::Container;

/// First and longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

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
            failures: 0,
            next: Instant::now(),
            seen: None,
        }
    }

    fn succeeded(&mut self) {
        self.was = true;
        self.mounted = true;
        self.failures = 0;
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
