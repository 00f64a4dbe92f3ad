//! The unix sockets for the kubelet. Only root, its user, may connect. A socket of an earlier
//! process that has ended is replaced. Any other file at the path is an error.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A listening socket. Its file is removed on drop.
pub(super) struct Socket {
    pub listener: UnixListener,
    _file: SocketFile,
}

/// The file of a socket. It is removed on drop.
struct SocketFile(PathBuf);

impl Socket {
    /// Listens at the path. Missing directories are created.
    ///
    /// # Errors
    /// When another process listens there, when another kind of file exists there, or when
    /// the path is longer than the 107 bytes of a socket address.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o750).create(directory)?;
        }
        remove_stale(path).await?;
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            _file: file,
        })
    }
}

/// Removes the socket of a process that has ended.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let taken = |text| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => taken("the file is not a socket"),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => taken("another process listens there"),
            Err(_) => std::fs::remove_file(path),
        },
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the file of a socket is not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugins/driver/csi.sock");
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
