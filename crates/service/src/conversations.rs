//! Conversations with a sandbox of their own: told, and ended.

use futures::future::join_all;

use super::target::{Target, annotation};
use super::{Service, ServiceError};
use hutch_api::annotations;

impl Service {
    /// The conversations that have a sandbox of their own.
    pub fn conversations(&self) -> Vec<String> {
        let all = self.sandboxes.all();
        let mut ids: Vec<_> = all
            .iter()
            .filter(|sandbox| sandbox.metadata.deletion_timestamp.is_none())
            .filter_map(|sandbox| annotation(sandbox, annotations::CONVERSATION))
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids
    }

    /// Ends the sandbox that a conversation has for itself; `false` where it has
    /// none. A project's stays.
    ///
    /// # Errors
    /// When the cluster does not take the deletion, or it is not done in time.
    pub async fn end_conversation(&self, id: &str) -> Result<bool, ServiceError> {
        self.end(&Target::conversation(id)).await
    }

    /// Ends the sandboxes of all conversations that have one of their own, and
    /// returns how many those were.
    ///
    /// # Errors
    /// The first deletion that failed; the others are done.
    pub async fn end_conversations(&self) -> Result<usize, ServiceError> {
        let ids = self.conversations();
        let ended = join_all(ids.iter().map(|id| self.end_conversation(id))).await;
        let ended: Vec<bool> = ended.into_iter().collect::<Result<_, _>>()?;
        Ok(ended.into_iter().filter(|ended| *ended).count())
    }
}
