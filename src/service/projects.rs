//! From a conversation or a project to its sandbox. A conversation of a project
//! works in the project's sandbox; every other has a sandbox of its own.

use futures::future::join_all;

use super::target::{Target, annotation};
use super::{Service, ServiceError};
use crate::crd::annotations;

/// Where the requests of a conversation go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sandbox.
    pub target: Target,
    /// Its working directory.
    pub workdir: String,
    /// Whether commands begin there by themselves.
    at_home: bool,
}

impl Place {
    /// The directory to be named for a command that is to run in the working
    /// directory; none where it begins there by itself.
    pub fn cwd(&self) -> Option<String> {
        (!self.at_home).then(|| self.workdir.clone())
    }
}

impl Service {
    /// Where a conversation works.
    pub async fn conversation(&self, id: &str) -> Place {
        self.own_place(id)
    }

    fn own_place(&self, id: &str) -> Place {
        let target = Target::conversation(id);
        let made = self.sandboxes.get(&target.name);
        let workspace = made.as_ref().map_or_else(
            || &self.settings.project_template.workspace,
            |made| &made.spec.workspace,
        );
        Place {
            workdir: workspace.mount_path.clone(),
            target,
            at_home: true,
        }
    }

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
        let target = Target::conversation(id);
        if self.sandboxes.get(&target.name).is_none() {
            return Ok(false);
        }
        self.destroy(&target).await?;
        Ok(true)
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
