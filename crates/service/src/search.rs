//! Searches in the files of a place, and lists its directory tree.

use std::time::Duration;

use super::projects::Place;
use super::{MOST_FILES, Service, ServiceError};
use hutch_core::search::{SearchLimits, SearchOutput, Tree, TreeKind, TreeLimits};

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
pub enum Wanted {
    /// Lines of files that match a basic regular expression, as `grep -r` finds them.
    Lines,
    /// Files and directories whose name matches a shell pattern, as `find -name` finds
    /// them.
    Names,
}

impl Service {
    /// Returns the output of `grep -r PATTERN PATH` or `find PATH -name PATTERN`.
    /// Without a path it searches the working directory.
    ///
    /// # Errors
    /// If no sandbox is ready in time.
    pub async fn search(
        &self,
        place: &Place,
        wanted: Wanted,
        pattern: &str,
        path: Option<&str>,
    ) -> Result<SearchOutput, ServiceError> {
        let limits = SearchLimits {
            output: self.settings.max_output,
            time: SEARCH_TIMEOUT,
        };
        let path = place.path(path.unwrap_or(&place.workdir));
        let call = |pod| async move {
            let path = self.resolve(&pod, &place.target, path).await?;
            match wanted {
                Wanted::Lines => self.agents.grep(&pod, pattern, &path, limits).await,
                Wanted::Names => self.agents.glob(&pod, pattern, &path, limits).await,
            }
        };
        self.reach(&place.target, call).await
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

    /// The first [`MOST_FILES`] files of a place that have a checker, as paths relative
    /// to its working directory.
    ///
    /// # Errors
    /// If no sandbox is ready in time.
    pub async fn sources(&self, place: &Place) -> Result<Vec<String>, ServiceError> {
        let limits = TreeLimits {
            content: 0,
            ..TREE_LIMITS
        };
        let tree = self.tree_within(place, None, limits).await?;
        let mut directories: Vec<String> = Vec::new();
        let mut sources = Vec::new();
        for entry in &tree.entries {
            let depth = usize::try_from(entry.depth).unwrap_or(0);
            let Ok(name) = std::str::from_utf8(&entry.name) else {
                continue;
            };
            directories.truncate(depth.saturating_sub(1));
            match entry.kind {
                TreeKind::Directory if depth > 0 => directories.push(format!("{name}/")),
                TreeKind::File if super::diagnostics::is_source(name) => {
                    sources.push(directories.concat() + name);
                }
                _ => {}
            }
        }
        sources.truncate(MOST_FILES);
        Ok(sources)
    }

    async fn tree_within(
        &self,
        place: &Place,
        path: Option<&str>,
        limits: TreeLimits,
    ) -> Result<Tree, ServiceError> {
        let path = place.path(path.unwrap_or(&place.workdir));
        let call = |pod| async move {
            let path = self.resolve(&pod, &place.target, path).await?;
            self.agents.tree(&pod, &path, limits).await
        };
        self.reach(&place.target, call).await
    }
}
