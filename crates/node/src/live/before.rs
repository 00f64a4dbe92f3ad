//! Before a container runs: what keeps the kubelet from mounting the buckets that are
//! volumes of its pod.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::status::{self, About, Seen};
use super::worker::{IDLE, SOON, Worker};
use hutch_api::{Bucket, BucketPhase, BucketStatus, Mechanism, Sandbox};
use hutch_core::buckets::{self, reasons};

/// Reasons for which somebody has to change something.
const FINAL: [&str; 4] = [
    reasons::ACCESS_DENIED,
    reasons::NO_SUCH_BUCKET,
    reasons::INSECURE,
    reasons::BAD_OPTION,
];

impl Worker {
    /// Says what is refused; returns when to look again.
    pub(super) async fn tell_of_refusals(&mut self, pod: &Pod) -> Duration {
        if buckets::noted(pod).next().is_none() {
            return IDLE;
        }
        if let Some(sandbox) = self.sandbox_of(pod) {
            let all = sandbox.spec.buckets.iter();
            let entries: Vec<_> = all
                .filter_map(|bucket| self.refused(&sandbox, pod, bucket))
                .collect();
            if !entries.is_empty() {
                self.report(&sandbox, entries).await;
            }
        }
        SOON
    }

    fn refused(&self, sandbox: &Sandbox, pod: &Pod, bucket: &Bucket) -> Option<BucketStatus> {
        buckets::volume_path(pod, &bucket.name)?;
        let made = pod.metadata.creation_timestamp.as_ref()?.0;
        let refusals = &self.live.0.refusals;
        let refusal = refusals.since(&buckets::handle(bucket), made)?;
        let phase = match FINAL.contains(&refusal.reason.as_str()) {
            true => BucketPhase::Failed,
            false => BucketPhase::Pending,
        };
        let about = About {
            name: &bucket.name,
            digest: &buckets::digest(bucket),
            container: None,
            mechanism: Mechanism::Csi,
        };
        let seen = Seen::wrong(phase, &refusal.reason, refusal.text);
        let before = self.written.before(sandbox, &bucket.name);
        Some(status::entry(&about, seen, before, Timestamp::now()))
    }
}
