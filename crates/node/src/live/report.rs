//! Reports the state of a sandbox's buckets: in its status, with one apply for all, and in an
//! event if a user may want to act. It writes only changes.

use kube::ResourceExt;
use serde_json::json;

use super::Live;
use super::id::ObjectKey;
use super::status;
use hutch_api::{BucketPhase, BucketStatus, Sandbox};
use hutch_core::reasons::Reason;
use hutch_kube::apply::Error;
use hutch_kube::events::EventType;

/// Writes the status entries of one sandbox's buckets.
pub struct Reporter {
    live: Live,
    key: ObjectKey,
    written: Written,
    /// ID of the last container that ran.
    last_container: Option<String>,
}

/// The status that was written last. The cache may not show it yet.
#[derive(Default)]
struct Written {
    uid: String,
    version: u64,
    entries: Vec<BucketStatus>,
}

/// The result of an attempt to clear the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// Nothing more is to be done.
    Done,
    /// The write failed and must be repeated.
    Retry,
}

/// The resource version as a number. Versions of an object increase (KEP-5504).
fn version(sandbox: &Sandbox) -> u64 {
    let version = sandbox.resource_version();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

impl Reporter {
    pub fn new(live: Live, key: ObjectKey) -> Self {
        Self {
            live,
            key,
            written: Written::default(),
            last_container: None,
        }
    }

    /// Records that this container runs.
    pub fn container_runs(&mut self, id: &str) {
        self.last_container = Some(id.to_owned());
    }

    /// The newer of the cache's entries and those that were written last.
    fn latest<'a>(&'a self, sandbox: &'a Sandbox) -> &'a [BucketStatus] {
        let written = &self.written;
        let same = sandbox.uid().as_ref() == Some(&written.uid);
        if same && version(sandbox) < written.version {
            return &written.entries;
        }
        let status = sandbox.status.as_ref();
        status.map_or(&[], |status| &status.buckets)
    }

    /// The present entry of a bucket.
    pub fn before<'a>(&'a self, sandbox: &'a Sandbox, name: &str) -> Option<&'a BucketStatus> {
        self.latest(sandbox).iter().find(|entry| entry.name == name)
    }

    /// Writes the entries if a user could see a difference. A failed write is repeated at the
    /// next look.
    pub async fn report(&mut self, sandbox: &Sandbox, entries: Vec<BucketStatus>) {
        let before = self.latest(sandbox).to_vec();
        if !status::differ(&before, &entries) {
            return;
        }
        let body = json!({"buckets": entries});
        match self.live.0.writer.apply_status(sandbox, &body).await {
            Ok(written) => {
                self.written = Written {
                    uid: sandbox.uid().unwrap_or_default(),
                    version: version(&written),
                    entries: entries.clone(),
                };
            }
            Err(error) => {
                let key = &self.key.name;
                tracing::warn!(sandbox = key, %error, "the status cannot be written");
                return;
            }
        }
        for entry in &entries {
            let before = before.iter().find(|before| before.name == entry.name);
            self.publish_event(sandbox, entry, before).await;
        }
    }

    /// Clears the entries about the last container here, after it has ended. The next
    /// container may run on another node, whose process then reports.
    pub async fn clear(&self) -> Cleared {
        let caches = &self.live.0.caches;
        let Some(sandbox) = caches.sandboxes.get(&self.key.namespace, &self.key.name) else {
            return Cleared::Done;
        };
        let entries = self.latest(&sandbox);
        // An entry without a container ID is about a container that never ran.
        let ours = |entry: &BucketStatus| {
            entry.container_id.is_none() || entry.container_id == self.last_container
        };
        if entries.is_empty() || !entries.iter().all(ours) {
            return Cleared::Done;
        }
        let body = json!({"buckets": []});
        match self
            .live
            .0
            .writer
            .apply_status_unchanged(&*sandbox, &body)
            .await
        {
            Ok(_) | Err(Error::NotFound(_)) => Cleared::Done,
            Err(error) => {
                tracing::debug!(sandbox = self.key.name, %error, "the status stays as it is");
                Cleared::Retry
            }
        }
    }

    /// Publishes an event if the bucket fails for a new reason or has recovered.
    async fn publish_event(
        &self,
        sandbox: &Sandbox,
        now: &BucketStatus,
        before: Option<&BucketStatus>,
    ) {
        let (events, name) = (&self.live.0.events, &now.name);
        let part = format!("spec.buckets{{{name}}}");
        let was = before.and_then(|before| before.reason.as_ref());
        match (&now.reason, &now.error) {
            (Some(reason), Some(error)) if was != Some(reason) => {
                let note = format!("bucket {name}: {error}");
                let kind = EventType::Warning;
                let reason = Reason::parse(reason).unwrap_or(Reason::MounterFailed);
                events.of_part(sandbox, &part, kind, reason, &note).await;
            }
            (None, _) if was.is_some() && now.phase == BucketPhase::Mounted => {
                let note = format!("bucket {name} is mounted");
                let kind = EventType::Normal;
                let reason = Reason::BucketMounted;
                events.of_part(sandbox, &part, kind, reason, &note).await;
            }
            _ => {}
        }
    }
}
