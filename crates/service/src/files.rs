//! Files of a sandbox.

use bytes::Bytes;

use super::target::Target;
use super::{Service, ServiceError};
use hutch_core::agent::AgentError;
use hutch_core::files::{FileKind, FilePath};
use hutch_core::interfaces::PodRef;

/// A path as a client gives it.
#[derive(Clone, Copy, Debug)]
pub struct ClientPath<'a> {
    /// The path.
    pub path: &'a str,
    /// Where a relative one begins.
    pub base: Base<'a>,
}

/// Where relative paths begin.
#[derive(Clone, Copy, Debug)]
pub enum Base<'a> {
    /// In a session's directory; in the workspace where there is no such session.
    Session(&'a str),
    /// In a folder.
    Folder(&'a str),
}

impl Service {
    /// The bytes of a file.
    ///
    /// # Errors
    /// The agent's refusal, or when no sandbox can be had in time.
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

    /// Makes or replaces a file, wholly or not at all; parents are made.
    ///
    /// # Errors
    /// The agent's refusal, or when no sandbox can be had in time.
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

    /// Makes a folder; with `recursive` its parents too, and one that exists is
    /// no error.
    ///
    /// # Errors
    /// The agent's refusal, or when no sandbox can be had in time.
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

    /// Gives a file or folder another path.
    ///
    /// # Errors
    /// The agent's refusal, or when no sandbox can be had in time.
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

    /// Deletes one name that is no folder.
    ///
    /// # Errors
    /// The agent's refusal, or when no sandbox can be had in time.
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

    /// Whether anything is at a path, symbolic links followed.
    ///
    /// # Errors
    /// The agent's refusal, or when no sandbox can be had in time.
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

    /// The names in a folder, sorted by their bytes.
    ///
    /// # Errors
    /// The agent's refusal, or when no sandbox can be had in time.
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
            Base::Folder(folder) => Bytes::copy_from_slice(folder.as_bytes()),
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
