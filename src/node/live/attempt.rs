//! What was tried of one bucket in one container, and when it is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::Live;
use super::align::Running;
use super::id::MountId;
use super::mount::Failure;
use super::status::Seen;
use crate::crd::{Bucket, Mechanism};
use crate::domain::buckets;
use crate::node::volume;

/// First and longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The attempts at one bucket, as the spec has it now, in one container.
pub struct Try {
    /// The spec's entry.
    pub digest: String,
    container: String,
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
    fn new(bucket: &Bucket, container: &str) -> Self {
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
    /// Sees to it that the bucket is mounted, if its time has come.
    pub(super) async fn attempt(
        &self,
        id: MountId,
        bucket: &Bucket,
        running: &Running<'_>,
        before: Option<Try>,
    ) -> Try {
        let fresh = Try::new(bucket, running.id);
        let same = |old: &Try| old.digest == fresh.digest && old.container == fresh.container;
        let mut this = before.filter(same).unwrap_or(fresh);
        if running.mechanism(&bucket.name) == Mechanism::Csi {
            this.mounted = true;
            let path = &bucket.mount_path;
            this.seen = Some(
                volume::look(running.container.init, path)
                    .await
                    .map_or_else(|error| Seen::ill(&error), |()| Seen::mounted()),
            );
            return this;
        }
        let name = id.to_string();
        if this.mounted && self.0.mounts.lives(&name) {
            let ill = self.0.health.ill(&name);
            this.seen = Some(ill.map_or_else(Seen::mounted, |error| Seen::ill(&error)));
            return this;
        }
        if this.next > Instant::now() {
            return this;
        }
        match self.mount(&id, bucket, running.container, this.was).await {
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
