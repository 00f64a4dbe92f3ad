//! Finds the place of a conversation or a project. A conversation of a project works in
//! the project's sandbox; every other conversation has a sandbox of its own.
//!
//! While the database is away, the service uses the last answer that it got, and the
//! project IDs in the specs of the sandboxes. A request fails for lack of the database
//! only if it asks for a project that no sandbox has.

mod lookups;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::target::{Target, annotation};
use crate::{Acquirer, Place, ServiceError, cache};
use hutch_api::annotations;
use hutch_core::interfaces::{self, DatabaseError, DatabaseState, Integration, Project, Sandboxes};
use lookups::Lookups;

/// How long a conversation that was never looked up waits for a database that was lost
/// a moment ago. It should not get a sandbox of its own too early: its files would then
/// be in that sandbox.
const DATABASE_GRACE: Duration = Duration::from_secs(10);
/// The time between two tries of such a lookup.
const LOOKUP_RETRY: Duration = Duration::from_millis(250);

/// The conversations and projects of the project API.
pub struct Projects {
    acquirer: Arc<Acquirer>,
    sandboxes: Arc<dyn Sandboxes>,
    database: Arc<dyn interfaces::Projects>,
    lookups: Lookups,
}

impl Projects {
    /// Makes this part over the sandboxes of one namespace.
    pub fn new(
        acquirer: Arc<Acquirer>,
        sandboxes: Arc<dyn Sandboxes>,
        database: Arc<dyn interfaces::Projects>,
    ) -> Self {
        Self {
            acquirer,
            sandboxes,
            database,
            lookups: Lookups::default(),
        }
    }

    /// The state of the connection to the database.
    pub fn database(&self) -> DatabaseState {
        self.database.state()
    }

    /// The place in which a conversation works. Its sandbox need not exist yet.
    pub async fn conversation(&self, id: &str) -> Place {
        match self.project_of_conversation(id).await {
            Some(project) => {
                let place = self.acquirer.places.of(&project).await;
                if self.lookups.note_logged(id, &place.target.name) {
                    self.log_attached(id, &project, &place);
                }
                place
            }
            None => self.acquirer.places.place(Target::conversation(id), None),
        }
    }

    /// The place in which a project works. `None` if there is no such project.
    ///
    /// # Errors
    /// The database's error, if no sandbox names the project either.
    pub async fn project(&self, id: &str) -> Result<Option<Place>, DatabaseError> {
        let places = &self.acquirer.places;
        match self.database.get(id).await {
            Ok(Some(project)) => Ok(Some(places.of(&project).await)),
            Ok(None) => Ok(None),
            Err(error) => match places.oldest_sandbox_of(id) {
                Some(sandbox) => Ok(Some(places.existing(&sandbox, None, None))),
                None => Err(error),
            },
        }
    }

    async fn project_of_conversation(&self, id: &str) -> Option<Project> {
        let last = self.lookups.get(id);
        if let Some((project, true)) = last {
            return project;
        }
        let give_up = Instant::now() + DATABASE_GRACE;
        loop {
            let error = match self.database.of_session(id).await {
                Ok(project) => {
                    self.lookups.set(id, project.clone());
                    return project;
                }
                Err(error) => error,
            };
            // Only at debug level: the database module reports its errors itself.
            tracing::debug!(conversation = id, %error, "the project was not looked up");
            match last {
                Some((project, _)) => return project,
                None if error.away() && self.just_lost() && Instant::now() < give_up => {
                    tokio::time::sleep(LOOKUP_RETRY).await;
                }
                None => return None,
            }
        }
    }

    /// True if the database may soon answer: it answers now, or it has been away for
    /// less than [`DATABASE_GRACE`].
    fn just_lost(&self) -> bool {
        let state = self.database.state();
        let since = Timestamp::now().duration_since(state.since);
        match state.integration {
            Integration::Connected => true,
            Integration::Away => since.unsigned_abs() < DATABASE_GRACE,
            Integration::NotConfigured => false,
        }
    }

    /// Logs which existing container a conversation uses. The acquirer
    /// logs a new one, once it runs.
    fn log_attached(&self, conversation: &str, project: &Project, place: &Place) {
        if !self.acquirer.places.is_cached(&place.target) {
            return;
        }
        let (sandbox, workdir) = (&place.target.name, &place.workdir);
        let project = &project.id;
        tracing::info!(
            conversation,
            project,
            sandbox,
            workdir,
            "attached to an existing container"
        );
    }

    /// The IDs of the conversations that have a sandbox of their own, sorted.
    pub fn conversations(&self) -> Vec<String> {
        let all = self.sandboxes.all();
        let mut ids: Vec<_> = all
            .iter()
            .filter(|sandbox| cache::is_live(sandbox))
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
        self.acquirer.destroy(&Target::conversation(id)).await
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

#[cfg(test)]
mod tests;
