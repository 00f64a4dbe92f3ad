//! Says how the buckets of a sandbox are: in its status, all in one apply, and in
//! an event where a person may want to act. Written only when it has changed.

use std::sync::Arc;

use kube::ResourceExt;
use serde_json::json;

use super::status;
use super::worker::Worker;
use hutch_api::{BucketPhase, BucketStatus, Sandbox};
use hutch_kube::apply::Error;
use hutch_kube::events::EventType;

/// What was written last: the cache may not have it yet.
#[derive(Default)]
pub struct Written {
    uid: String,
    version: u64,
    entries: Vec<BucketStatus>,
}

impl Written {
    /// The entries as they are by all that is known.
    fn latest<'a>(&'a self, sandbox: &'a Sandbox) -> &'a [BucketStatus] {
        let same = sandbox.uid().as_ref() == Some(&self.uid);
        match same && version(sandbox) < self.version {
            true => &self.entries,
            false => sandbox
                .status
                .as_ref()
                .map_or(&[], |status| &status.buckets),
        }
    }

    /// What was said of a bucket.
    pub fn before<'a>(&'a self, sandbox: &'a Sandbox, name: &str) -> Option<&'a BucketStatus> {
        self.latest(sandbox).iter().find(|entry| entry.name == name)
    }
}

/// Versions of an object grow (KEP-5504).
fn version(sandbox: &Sandbox) -> u64 {
    let version = sandbox.resource_version();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

impl Worker {
    /// Writes the entries, if a user could see a difference. A write that fails is
    /// made up for at the next look.
    pub(super) async fn report(&mut self, sandbox: &Arc<Sandbox>, entries: Vec<BucketStatus>) {
        let before = self.written.latest(sandbox).to_vec();
        if !status::differ(&before, &entries) {
            return;
        }
        let body = json!({"buckets": entries});
        match self.live.0.writer.status(&**sandbox, &body, false).await {
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
            self.tell(sandbox, entry, before).await;
        }
    }

    /// Takes back what was said of the last container here, once it is gone: of the
    /// next one nothing is known, and another node may be the one that speaks.
    /// `false` where that is to be tried again.
    pub(super) async fn say_nothing_more(&mut self) -> bool {
        let caches = &self.live.0.caches;
        let Some(sandbox) = caches.sandboxes.get(&self.key.namespace, &self.key.name) else {
            return true;
        };
        let said = self.written.latest(&sandbox);
        // Without a container: of one that has not come to run.
        let ours =
            |entry: &BucketStatus| entry.container_id.is_none() || entry.container_id == self.last;
        if said.is_empty() || !said.iter().all(ours) {
            return true;
        }
        let body = json!({"buckets": []});
        match self.live.0.writer.status(&*sandbox, &body, true).await {
            Ok(_) | Err(Error::NotFound(_)) => true,
            Err(error) => {
                tracing::debug!(sandbox = self.key.name, %error, "the status stays as it is");
                false
            }
        }
    }

    /// An event for what fails, and for what works again.
    async fn tell(&self, sandbox: &Sandbox, now: &BucketStatus, before: Option<&BucketStatus>) {
        let (events, name) = (&self.live.0.events, &now.name);
        let part = format!("spec.buckets{{{name}}}");
        let was = before.and_then(|before| before.reason.as_ref());
        match (&now.reason, &now.error) {
            (Some(reason), Some(error)) if was != Some(reason) => {
                let note = format!("bucket {name}: {error}");
                let kind = EventType::Warning;
                events.of_part(sandbox, &part, kind, reason, &note).await;
            }
            (None, _) if was.is_some() && now.phase == BucketPhase::Mounted => {
                let note = format!("bucket {name} is mounted");
                let kind = EventType::Normal;
                let told = events.of_part(sandbox, &part, kind, "BucketMounted", &note);
                told.await;
            }
            _ => {}
        }
    }
}
