//! Searches in a place's files, and its tree.

use std::time::Duration;

use super::projects::Place;
use super::{MOST_FILES, Service, ServiceError};
use hutch_core::search::{SearchLimits, SearchOutput, Tree, TreeKind, TreeLimits};

/// How long a search may take: clients wait longer than that.
const TIME: Duration = Duration::from_secs(60);
/// Bounds of a tree.
const TREE: TreeLimits = TreeLimits {
    content: 1 << 20,
    entries: 20_000,
    contents: 16 << 20,
    time: Duration::from_secs(20),
};

/// What a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Lines of files that match a basic regular expression.
    Lines,
    /// Names that match a pattern of the shell.
    Names,
}

impl Service {
    /// What `grep -r PATTERN PATH`, or `find PATH -name PATTERN`, would print;
    /// without a path in the working directory.
    ///
    /// # Errors
    /// When no sandbox can be had in time.
    pub async fn search(
        &self,
        place: &Place,
        wanted: Wanted,
        pattern: &str,
        path: Option<&str>,
    ) -> Result<SearchOutput, ServiceError> {
        let limits = SearchLimits {
            output: self.settings.max_output,
            time: TIME,
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

    /// The folder at a path, or the working directory, and all below it.
    ///
    /// # Errors
    /// [`NotFound`](hutch_core::agent::AgentError::NotFound), or when no
    /// sandbox can be had in time.
    pub async fn tree(&self, place: &Place, path: Option<&str>) -> Result<Tree, ServiceError> {
        self.tree_within(place, path, TREE).await
    }

    /// The sources of a place, as paths below its working directory.
    ///
    /// # Errors
    /// When no sandbox can be had in time.
    pub async fn sources(&self, place: &Place) -> Result<Vec<String>, ServiceError> {
        let limits = TreeLimits { content: 0, ..TREE };
        let tree = self.tree_within(place, None, limits).await?;
        let mut folders: Vec<String> = Vec::new();
        let mut sources = Vec::new();
        for entry in &tree.entries {
            let depth = usize::try_from(entry.depth).unwrap_or(0);
            let Ok(name) = std::str::from_utf8(&entry.name) else {
                continue;
            };
            folders.truncate(depth.saturating_sub(1));
            match entry.kind {
                TreeKind::Folder if depth > 0 => folders.push(format!("{name}/")),
                TreeKind::File if super::diagnostics::is_source(name) => {
                    sources.push(folders.concat() + name);
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
