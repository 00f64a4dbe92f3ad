//! The agent's socket, in the abstract namespace of unix sockets, and who may be
//! at its other end.
//!
//! Such a socket belongs to a network namespace and has no permissions. Hutch's
//! own pods have one container, so the plain name will do; a container of anybody
//! else's may share its network with others, with the whole node even, and so its
//! agent's name has the container's mount namespace in it.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use hutch_wire::paths;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::geteuid;

/// The number under which an agent that `connect` has started finds its socket.
pub const HANDED_DOWN: i32 = 3;

/// The socket of a sandbox's agent.
///
/// # Errors
/// Never, as the name is short enough.
pub fn of_a_sandbox() -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(paths::SOCKET)
}

/// The socket of the agent of this very container.
///
/// # Errors
/// Where there is no `/proc`.
pub fn of_this_container() -> io::Result<SocketAddr> {
    let namespace = std::fs::metadata("/proc/self/ns/mnt")?.ino();
    let name = [paths::SOCKET, format!("/{namespace}").as_bytes()].concat();
    SocketAddr::from_abstract_name(name)
}

/// The socket that `connect` has opened for the agent it starts.
///
/// # Errors
/// When this process was not started so.
pub fn handed_down() -> io::Result<UnixListener> {
    // SAFETY: nothing else of this process has that descriptor: the command line
    // says that it was handed down, and it is taken before anything is opened.
    #[allow(unsafe_code)]
    let socket = unsafe { OwnedFd::from_raw_fd(HANDED_DOWN) };
    // No command may have it.
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket.into())
}

/// Whether the other end is in this pid namespace, so in this container or this
/// pod's, and of this user or of root. Without this, a process that has given up
/// root could have the agent run commands as root, or take its place.
pub fn trusted(stream: impl AsFd) -> bool {
    getsockopt(&stream, PeerCredentials)
        .is_ok_and(|peer| peer.pid() > 0 && (peer.uid() == 0 || peer.uid() == geteuid().as_raw()))
}
