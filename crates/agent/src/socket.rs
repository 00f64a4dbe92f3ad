//! The agent's abstract unix socket, and the check of its peers.
//!
//! Such a socket belongs to a network namespace and has no permissions. Hutch's own
//! pods have one container, so a fixed name is enough. Other containers may share their
//! network with others, even with the whole node, so the name there includes the
//! container's mount namespace.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use hutch_wire::paths;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::geteuid;

/// Descriptor number of the socket in an agent that `connect` has started.
pub const HANDED_DOWN: i32 = 3;

/// The address for a sandbox that Hutch created.
///
/// # Errors
/// Never: the name is short enough.
pub fn of_a_sandbox() -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(paths::SOCKET)
}

/// The address for the container of this process.
///
/// # Errors
/// Without `/proc`.
pub fn of_this_container() -> io::Result<SocketAddr> {
    let namespace = std::fs::metadata("/proc/self/ns/mnt")?.ino();
    let name = [paths::SOCKET, format!("/{namespace}").as_bytes()].concat();
    SocketAddr::from_abstract_name(name)
}

/// Takes the socket that `connect` has opened for this agent.
///
/// # Errors
/// If this process was not started so.
pub fn handed_down() -> io::Result<UnixListener> {
    // SAFETY: nothing else of this process has that descriptor: the command line
    // says that it was handed down, and it is taken before anything is opened.
    #[allow(unsafe_code)]
    let socket = unsafe { OwnedFd::from_raw_fd(HANDED_DOWN) };
    // Commands must not inherit it.
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket.into())
}

/// True if the peer is in this pid namespace (so in this container or pod) and its user
/// is the agent's or root. Without this check, a process that has given up root could
/// run commands as root through the agent, or impersonate the agent.
pub fn trusted(stream: impl AsFd) -> bool {
    getsockopt(&stream, PeerCredentials)
        .is_ok_and(|peer| peer.pid() > 0 && (peer.uid() == 0 || peer.uid() == geteuid().as_raw()))
}
