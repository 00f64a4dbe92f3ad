//! Reports why the kubelet cannot mount a pod's volumes, before the container runs.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::status::{self, EntryFields, Observation};
use super::worker::{IDLE_INTERVAL, RETRY_INTERVAL, Worker};
use hutch_api::{Bucket, BucketPhase, BucketStatus, Mechanism, Sandbox};
use hutch_core::buckets;
use hutch_core::reasons::Reason;

/// Reasons that stay until a user changes something.
const FINAL_REASONS: [Reason; 4] = [
    Reason::AccessDenied,
    Reason::NoSuchBucket,
    Reason::InsecureEndpoint,
    Reason::BadOption,
];

impl Worker {
    /// Reports the volumes that could not be mounted. Returns the time until the next look.
    pub(super) async fn report_refusals(&mut self, pod: &Pod) -> Duration {
        if buckets::annotated(pod).next().is_none() {
            return IDLE_INTERVAL;
        }
        if let Some(sandbox) = self.sandbox_of(pod) {
            let all = sandbox.spec.buckets.iter();
            let entries: Vec<_> = all
                .filter_map(|bucket| self.refused(&sandbox, pod, bucket))
                .collect();
            if !entries.is_empty() {
                self.reporter.report(&sandbox, entries).await;
            }
        }
        RETRY_INTERVAL
    }

    fn refused(&self, sandbox: &Sandbox, pod: &Pod, bucket: &Bucket) -> Option<BucketStatus> {
        buckets::volume_path(pod, &bucket.name)?;
        let created = pod.metadata.creation_timestamp.as_ref()?.0;
        let refusals = &self.live.0.refusals;
        let refusal = refusals.since(&buckets::handle(bucket), created)?;
        let phase = if FINAL_REASONS.contains(&refusal.reason) {
            BucketPhase::Failed
        } else {
            BucketPhase::Pending
        };
        let fields = EntryFields {
            name: &bucket.name,
            digest: &buckets::digest(bucket),
            container: None,
            mechanism: Mechanism::Csi,
        };
        let observed = Observation::failure(phase, refusal.reason, refusal.text);
        let before = self.reporter.before(sandbox, &bucket.name);
        Some(status::entry(&fields, observed, before, Timestamp::now()))
    }
}
