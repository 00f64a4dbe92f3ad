//! Reads, writes, moves, deletes and lists the files of a sandbox.

use bytes::Bytes;

use super::Work;
use crate::ServiceError;
use crate::target::Target;
use hutch_core::agent::AgentError;
use hutch_core::files::{FileKind, FilePath};
use hutch_core::interfaces::PodRef;

/// A path as a client gives it, absolute or relative.
#[derive(Clone, Copy, Debug)]
pub struct ClientPath<'a> {
    /// The path. It need not be normalized.
    pub path: &'a str,
    /// The start of a relative path.
    pub base: Base<'a>,
}

/// The directory at which a relative path starts.
#[derive(Clone, Copy, Debug)]
pub enum Base<'a> {
    /// The current directory of the session with this ID. If there is no such session:
    /// the workspace.
    Session(&'a str),
    /// This directory.
    Directory(&'a str),
}

/// Every function here fails with the error of the agent, or if no sandbox is ready in
/// time.
impl Work {
    /// Reads a file of at most [`max_file`](super::Limits::max_file) bytes.
    ///
    /// # Errors
    /// [`Full`](AgentError::Full) if the file is larger.
    pub async fn read_file(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<Bytes, ServiceError> {
        self.read_within(target, path, self.limits.max_file).await
    }

    pub(super) async fn read_within(
        &self,
        target: &Target,
        path: ClientPath<'_>,
        limit: u64,
    ) -> Result<Bytes, ServiceError> {
        let call = |pod, path| async move { self.agents.read(&pod, &path, limit).await };
        self.on_path(target, path, call).await
    }

    /// Creates or replaces a file atomically. Missing parent directories are created.
    ///
    /// # Errors
    /// [`Lost`](AgentError::Lost) if the outcome is unknown.
    pub async fn write_file(
        &self,
        target: &Target,
        path: ClientPath<'_>,
        content: &Bytes,
    ) -> Result<(), ServiceError> {
        let call = |pod, path| async move { self.agents.write(&pod, &path, content.clone()).await };
        self.on_path(target, path, call).await
    }

    /// Creates a directory. With `recursive`, missing parents are created, too, and a
    /// directory that exists is no error.
    ///
    /// # Errors
    /// [`Exists`](AgentError::Exists) if something is at the path.
    pub async fn make_directory(
        &self,
        target: &Target,
        path: ClientPath<'_>,
        recursive: bool,
    ) -> Result<(), ServiceError> {
        let call =
            |pod, path| async move { self.agents.make_directory(&pod, &path, recursive).await };
        self.on_path(target, path, call).await
    }

    /// Moves a file or directory to another path.
    ///
    /// # Errors
    /// [`NotFound`](AgentError::NotFound) if nothing is at the first path.
    pub async fn rename(
        &self,
        target: &Target,
        from: ClientPath<'_>,
        to: ClientPath<'_>,
    ) -> Result<(), ServiceError> {
        let call = |pod, from| async move {
            let to = self.resolve(&pod, target, to).await?;
            self.agents.rename(&pod, &from, &to).await
        };
        self.on_path(target, from, call).await
    }

    /// Deletes a file, a symbolic link or another entry that is not a directory.
    ///
    /// # Errors
    /// [`NotFound`](AgentError::NotFound) if nothing is at the path.
    pub async fn delete_file(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<(), ServiceError> {
        let call = |pod, path| async move { self.agents.delete(&pod, &path).await };
        self.on_path(target, path, call).await
    }

    /// Returns true if something exists at a path. Symbolic links are followed.
    ///
    /// # Errors
    /// [`Denied`](AgentError::Denied) if a directory of the path cannot be searched.
    pub async fn path_exists(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<bool, ServiceError> {
        let call = |pod, path| async move { self.agents.stat(&pod, &path).await };
        let kind = self.on_path(target, path, call).await?;
        Ok(kind != FileKind::Missing)
    }

    /// The names in a directory, sorted by their bytes.
    ///
    /// # Errors
    /// [`NotFound`](AgentError::NotFound) if nothing is at the path.
    pub async fn list_directory(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<Vec<Bytes>, ServiceError> {
        let call = |pod, path| async move { self.agents.list_directory(&pod, &path).await };
        let mut names = self.on_path(target, path, call).await?;
        names.sort();
        Ok(names)
    }

    /// Calls the agent of a target with a path as the agent resolves it.
    pub(super) async fn on_path<T, F>(
        &self,
        target: &Target,
        path: ClientPath<'_>,
        call: impl Fn(PodRef, FilePath) -> F,
    ) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let call = &call;
        let resolved = |pod: PodRef| async move {
            let path = self.resolve(&pod, target, path).await?;
            call(pod, path).await
        };
        self.acquirer.reach(target, resolved).await
    }

    async fn resolve(
        &self,
        pod: &PodRef,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<FilePath, AgentError> {
        let base = match path.base {
            _ if path.path.starts_with('/') => Bytes::new(),
            Base::Directory(directory) => Bytes::copy_from_slice(directory.as_bytes()),
            Base::Session(session) => self.sessions.directory(pod, target, session).await?,
        };
        Ok(FilePath {
            path: path.path.to_owned(),
            base,
        })
    }
}
