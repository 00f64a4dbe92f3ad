//! Reads, writes, moves, deletes and lists the files of a sandbox.

use bytes::Bytes;

use super::target::Target;
use super::{Service, ServiceError};
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
    Folder(&'a str),
}

impl Service {
    /// Reads a file of at most [`max_file`](super::ServiceSettings::max_file) bytes.
    ///
    /// # Errors
    /// The error of the agent, or an error if no sandbox is ready in time.
    pub async fn read_file(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<Bytes, ServiceError> {
        let call = |pod| async move {
            let path = self.resolve(&pod, target, path).await?;
            self.agents.read(&pod, &path, self.settings.max_file).await
        };
        self.reach(target, call).await
    }

    /// Creates or replaces a file atomically. Missing parent directories are created.
    ///
    /// # Errors
    /// The error of the agent, or an error if no sandbox is ready in time.
    pub async fn write_file(
        &self,
        target: &Target,
        path: ClientPath<'_>,
        content: &Bytes,
    ) -> Result<(), ServiceError> {
        let call = |pod| async move {
            let path = self.resolve(&pod, target, path).await?;
            self.agents.write(&pod, &path, content.clone()).await
        };
        self.reach(target, call).await
    }

    /// Creates a directory. With `recursive`, missing parents are created, too, and a
    /// directory that exists is no error.
    ///
    /// # Errors
    /// The error of the agent, or an error if no sandbox is ready in time.
    pub async fn make_folder(
        &self,
        target: &Target,
        path: ClientPath<'_>,
        recursive: bool,
    ) -> Result<(), ServiceError> {
        let call = |pod| async move {
            let path = self.resolve(&pod, target, path).await?;
            self.agents.make_folder(&pod, &path, recursive).await
        };
        self.reach(target, call).await
    }

    /// Moves a file or directory to another path.
    ///
    /// # Errors
    /// The error of the agent, or an error if no sandbox is ready in time.
    pub async fn rename(
        &self,
        target: &Target,
        from: ClientPath<'_>,
        to: ClientPath<'_>,
    ) -> Result<(), ServiceError> {
        let call = |pod| async move {
            let from = self.resolve(&pod, target, from).await?;
            let to = self.resolve(&pod, target, to).await?;
            self.agents.rename(&pod, &from, &to).await
        };
        self.reach(target, call).await
    }

    /// Deletes a file, a symbolic link or another entry that is not a directory.
    ///
    /// # Errors
    /// The error of the agent, or an error if no sandbox is ready in time.
    pub async fn delete_file(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<(), ServiceError> {
        let call = |pod| async move {
            let path = self.resolve(&pod, target, path).await?;
            self.agents.delete(&pod, &path).await
        };
        self.reach(target, call).await
    }

    /// Returns true if something exists at a path. Symbolic links are followed.
    ///
    /// # Errors
    /// The error of the agent, or an error if no sandbox is ready in time.
    pub async fn path_exists(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<bool, ServiceError> {
        let call = |pod| async move {
            let path = self.resolve(&pod, target, path).await?;
            self.agents.stat(&pod, &path).await
        };
        let kind = self.reach(target, call).await?;
        Ok(kind != FileKind::Missing)
    }

    /// The names in a directory, sorted by their bytes.
    ///
    /// # Errors
    /// The error of the agent, or an error if no sandbox is ready in time.
    pub async fn list_folder(
        &self,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<Vec<Bytes>, ServiceError> {
        let call = |pod| async move {
            let path = self.resolve(&pod, target, path).await?;
            self.agents.list_folder(&pod, &path).await
        };
        let mut names = self.reach(target, call).await?;
        names.sort();
        Ok(names)
    }

    pub(super) async fn resolve(
        &self,
        pod: &PodRef,
        target: &Target,
        path: ClientPath<'_>,
    ) -> Result<FilePath, AgentError> {
        let base = match path.base {
            _ if path.path.starts_with('/') => Bytes::new(),
            Base::Folder(directory) => Bytes::copy_from_slice(directory.as_bytes()),
            Base::Session(session) => {
                self.open_applied(pod, target, session).await?;
                let session = self.agents.state(pod, session).await?;
                session.map(|session| session.cwd).unwrap_or_default()
            }
        };
        Ok(FilePath {
            path: path.path.to_owned(),
            base,
        })
    }
}
