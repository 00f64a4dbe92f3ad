//! The last answers of the database about conversations. They are used while the
//! database is away.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use hutch_core::interfaces::Project;
use hutch_core::sync::Lock;

/// How long the answer of a lookup is used without asking again. The column
/// `container_name` may be behind for as long.
const LOOKUP_TTL: Duration = Duration::from_secs(5);
/// The number of conversations whose last lookup is kept for a time without database.
const MAX_LOOKUPS: usize = 10_000;

/// The last answers of the database, by conversation.
#[derive(Default)]
pub struct Lookups(Lock<HashMap<String, Lookup>>);

struct Lookup {
    at: Instant,
    project: Option<Project>,
    /// The sandbox that was logged last for this conversation.
    logged: Option<String>,
}

impl Lookups {
    /// The last answer for a conversation, and true if it is younger than
    /// [`LOOKUP_TTL`].
    pub fn get(&self, conversation: &str) -> Option<(Option<Project>, bool)> {
        let all = self.0.lock();
        let lookup = all.get(conversation)?;
        let fresh = lookup.at.elapsed() < LOOKUP_TTL;
        Some((lookup.project.clone(), fresh))
    }

    pub fn set(&self, conversation: &str, project: Option<Project>) {
        let mut all = self.0.lock();
        if all.len() >= MAX_LOOKUPS && !all.contains_key(conversation) {
            let oldest = all.iter().min_by_key(|(_, lookup)| lookup.at);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                all.remove(&oldest);
            }
        }
        let lookup = Lookup {
            at: Instant::now(),
            project,
            logged: all.remove(conversation).and_then(|old| old.logged),
        };
        all.insert(conversation.to_owned(), lookup);
    }

    /// Notes that the conversation's sandbox is logged. Returns true if it was not
    /// logged before.
    pub fn note_logged(&self, conversation: &str, sandbox: &str) -> bool {
        let mut all = self.0.lock();
        let Some(lookup) = all.get_mut(conversation) else {
            return true;
        };
        let before = lookup.logged.replace(sandbox.to_owned());
        before.as_deref() != Some(sandbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_lookup_is_dropped_when_there_are_too_many() {
        let lookups = Lookups::default();
        lookups.set("oldest", None);
        tokio::time::advance(Duration::from_secs(1)).await;
        for number in 1..MAX_LOOKUPS {
            lookups.set(&number.to_string(), None);
        }
        assert!(lookups.get("oldest").is_some());
        lookups.set("newest", None);
        assert!(lookups.get("oldest").is_none());
        assert!(lookups.get("1").is_some() && lookups.get("newest").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_sandbox_of_a_conversation_is_logged_once_until_it_changes() {
        let lookups = Lookups::default();
        lookups.set("c", None);
        assert!(lookups.note_logged("c", "one"));
        lookups.set("c", None);
        assert!(!lookups.note_logged("c", "one"));
        assert!(lookups.note_logged("c", "two"));
    }
}
