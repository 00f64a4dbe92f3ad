//! Events about a sandbox, for problems that a person may want to act on. Their length is
//! bounded. A failed write is logged and not repeated.

use std::time::Duration;

pub use kube::runtime::events::EventType;
use kube::runtime::events::{Event, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::warn;

use super::lease::Leadership;
use hutch_core::reasons::Reason;

/// Longest note in bytes. The API server's limit is 1024.
const MAX_NOTE_BYTES: usize = 900;
/// Timeout of one write.
const DEADLINE: Duration = Duration::from_secs(5);

/// Writes events as one controller.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    leadership: Leadership,
}

impl Events {
    /// A writer that uses `client` as `controller` while `leadership` holds.
    pub fn new(client: Client, leadership: Leadership, controller: &str) -> Self {
        let reporter: Reporter = controller.into();
        Self {
            recorder: Recorder::new(client, reporter),
            leadership,
        }
    }

    /// Writes an event of type Normal.
    pub async fn normal<K>(&self, about: &K, reason: Reason, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(about, None, EventType::Normal, reason, note)
            .await;
    }

    /// Writes an event of type Warning.
    pub async fn warning<K>(&self, about: &K, reason: Reason, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(about, None, EventType::Warning, reason, note)
            .await;
    }

    /// Writes an event about a part of the object, such as `spec.buckets{data}`. The API server
    /// counts repetitions of each part separately.
    pub async fn of_part<K>(
        &self,
        about: &K,
        part: &str,
        kind: EventType,
        reason: Reason,
        note: &str,
    ) where
        K: Resource<DynamicType = ()>,
    {
        self.publish(about, Some(part), kind, reason, note).await;
    }

    async fn publish<K>(
        &self,
        about: &K,
        part: Option<&str>,
        type_: EventType,
        reason: Reason,
        note: &str,
    ) where
        K: Resource<DynamicType = ()>,
    {
        if self.leadership.check().is_err() {
            return;
        }
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(shortened(note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let mut about = about.object_ref(&());
        // Repetitions are counted on one event only if the reference is the same.
        about.resource_version = None;
        about.field_path = part.map(str::to_owned);
        match tokio::time::timeout(DEADLINE, self.recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%reason, %error, "an event could not be written"),
            Err(_) => warn!(%reason, "an event could not be written in time"),
        }
    }
}

fn shortened(note: &str) -> String {
    let mut end = note.len().min(MAX_NOTE_BYTES);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"用".repeat(400));
        assert!(cut.len() <= MAX_NOTE_BYTES && cut.chars().all(|c| c == '用'));
    }
}
