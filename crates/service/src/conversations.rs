//! Lists and ends conversations that have a sandbox of their own.

use futures::future::join_all;

use super::target::{Target, annotation};
use super::{Service, ServiceError};
use hutch_api::annotations;

impl Service {
    /// The IDs of the conversations that have a sandbox of their own, sorted.
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

    /// Deletes the sandbox that belongs to this conversation alone. Returns false if
    /// there is none. The sandbox of a project stays.
    ///
    /// # Errors
    /// If the API server refuses the deletion, or it does not end in time.
    pub async fn end_conversation(&self, id: &str) -> Result<bool, ServiceError> {
        self.end(&Target::conversation(id)).await
    }

    /// Deletes the sandboxes of all conversations that have one of their own, and
    /// returns their number.
    ///
    /// # Errors
    /// The error of one deletion that failed. The others are carried out all the same.
    pub async fn end_conversations(&self) -> Result<usize, ServiceError> {
        let ids = self.conversations();
        let ended = join_all(ids.iter().map(|id| self.end_conversation(id))).await;
        let ended: Vec<bool> = ended.into_iter().collect::<Result<_, _>>()?;
        Ok(ended.into_iter().filter(|ended| *ended).count())
    }
}
