//! The unix sockets that the kubelet calls. Only its user, root, may. A file of
//! an earlier process that is gone makes room; anything else at that place does
//! not.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A listening socket; dropped, its file is removed.
pub(super) struct Socket {
    /// Accepts the callers.
    pub listener: UnixListener,
    _file: File,
}

/// The file of a socket; dropped, it is removed.
struct File(PathBuf);

impl Socket {
    /// Listens at that path, in a folder that it makes.
    ///
    /// # Errors
    /// Where another process listens, or something else than a socket lies there;
    /// where a path is longer than the 107 bytes that an address has.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            let mut make = std::fs::DirBuilder::new();
            make.recursive(true).mode(0o750).create(folder)?;
        }
        make_room(path).await?;
        let listener = UnixListener::bind(path)?;
        let file = File(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            _file: file,
        })
    }
}

/// Removes the socket of a process that is gone.
async fn make_room(path: &Path) -> io::Result<()> {
    let taken = |text| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            taken("something else than a socket lies there")
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => taken("another process listens there"),
            Err(_) => std::fs::remove_file(path),
        },
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a socket's file stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_dead_socket_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins/driver/csi.sock");
        let socket = Socket::bind(&path).await.unwrap();
        assert!(Socket::bind(&path).await.is_err(), "somebody listens");
        drop(socket);
        assert!(!path.exists());

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Socket::bind(&path).await.unwrap());

        std::fs::write(&path, "precious").unwrap();
        assert!(Socket::bind(&path).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
