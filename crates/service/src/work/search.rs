//! Searches in the files of a place, and lists its directory tree.

use std::time::Duration;

use super::Work;
use crate::{Place, ServiceError};
use hutch_core::search::{SearchLimits, SearchOutput, Tree, TreeLimits};

/// How long a search may take. Clients wait longer than that.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);
/// The limits of a directory tree.
const TREE_LIMITS: TreeLimits = TreeLimits {
    content: 1 << 20,
    entries: 20_000,
    contents: 16 << 20,
    time: Duration::from_secs(20),
};

/// The kind of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchKind {
    /// Lines of files that match a basic regular expression, as `grep -r` finds them.
    Lines,
    /// Files and directories whose name matches a shell pattern, as `find -name` finds
    /// them.
    Names,
}

impl Work {
    /// Returns the output of `grep -r PATTERN PATH` or `find PATH -name PATTERN`.
    /// Without a path it searches the working directory.
    ///
    /// # Errors
    /// If no sandbox is ready in time.
    pub async fn search(
        &self,
        place: &Place,
        kind: SearchKind,
        pattern: &str,
        path: Option<&str>,
    ) -> Result<SearchOutput, ServiceError> {
        let limits = SearchLimits {
            output: self.limits.max_output,
            time: SEARCH_TIMEOUT,
        };
        let call = |pod, path| async move {
            match kind {
                SearchKind::Lines => self.agents.grep(&pod, pattern, &path, limits).await,
                SearchKind::Names => self.agents.glob(&pod, pattern, &path, limits).await,
            }
        };
        let path = place.path(path.unwrap_or(&place.workdir));
        self.on_path(&place.target, path, call).await
    }

    /// The directory at a path, or the working directory, with everything below it,
    /// within the limits of this service.
    ///
    /// # Errors
    /// [`NotFound`](hutch_core::agent::AgentError::NotFound) if nothing is at the path,
    /// or an error if no sandbox is ready in time.
    pub async fn tree(&self, place: &Place, path: Option<&str>) -> Result<Tree, ServiceError> {
        self.tree_within(place, path, TREE_LIMITS).await
    }

    /// The tree of the working directory without the contents of files.
    pub(super) async fn names(&self, place: &Place) -> Result<Tree, ServiceError> {
        let limits = TreeLimits {
            content: 0,
            ..TREE_LIMITS
        };
        self.tree_within(place, None, limits).await
    }

    async fn tree_within(
        &self,
        place: &Place,
        path: Option<&str>,
        limits: TreeLimits,
    ) -> Result<Tree, ServiceError> {
        let call = |pod, path| async move { self.agents.tree(&pod, &path, limits).await };
        let path = place.path(path.unwrap_or(&place.workdir));
        self.on_path(&place.target, path, call).await
    }
}
