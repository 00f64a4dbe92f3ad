//! The status entries of all buckets of a running container.

use jiff::Timestamp;

use super::running::RunningContainer;
use super::status::{self, EntryFields, Observation};
use super::worker::Worker;
use hutch_api::{BucketStatus, Mechanism};
use hutch_core::buckets;

impl Worker {
    /// The status entries of all buckets. The spec may have a new bucket with the name of one
    /// that is being unmounted. Then the new one's entry counts.
    pub(super) fn entries(&self, running: &RunningContainer<'_>) -> Vec<BucketStatus> {
        let mut entries = self.entries_of_spec(running);
        let named =
            |entries: &[BucketStatus], name: &str| entries.iter().any(|entry| entry.name == name);
        for (id, busy) in &self.busy {
            if !named(&entries, &id.bucket) {
                let observed = Observation::busy(&busy.error);
                entries.push(self.entry(running, &id.bucket, None, observed));
            }
        }
        // The entry of a bucket stays until the bucket is unmounted.
        for id in self.tasks.unmounting() {
            let before = self.reporter.before(&running.sandbox, &id.bucket);
            if let Some(before) = before.filter(|_| !named(&entries, &id.bucket)) {
                entries.push(before.clone());
            }
        }
        entries
    }

    fn entries_of_spec(&self, running: &RunningContainer<'_>) -> Vec<BucketStatus> {
        let spec = running.sandbox.spec.buckets.iter();
        spec.filter_map(|bucket| {
            let attempt = self.attempts.get(&bucket.name)?;
            let (digest, observed) = (&attempt.entry.digest, attempt.observed()?.clone());
            Some(self.entry(running, &bucket.name, Some(digest), observed))
        })
        .collect()
    }

    /// One entry. Without a digest it keeps that of the entry before it.
    fn entry(
        &self,
        running: &RunningContainer<'_>,
        name: &str,
        digest: Option<&str>,
        observed: Observation,
    ) -> BucketStatus {
        let before = self.reporter.before(&running.sandbox, name);
        let last = before.and_then(|before| before.digest.as_deref());
        let attempt = self.attempts.get(name);
        let fields = EntryFields {
            name,
            digest: digest.or(last).unwrap_or_default(),
            container: Some(running.id),
            mechanism: if attempt.is_some_and(|attempt| !attempt.is_volume()) {
                Mechanism::Live
            } else {
                buckets::mechanism(running.pod, name)
            },
        };
        status::entry(&fields, observed, before, Timestamp::now())
    }
}
