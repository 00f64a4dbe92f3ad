//! Where the agent's things lie in a pod. The controller mounts them, the agent
//! finds them.

/// The agent's binary is in this folder, read-only for the sandbox.
pub const BIN: &str = "/.hutch/bin";

/// The agent as the controller starts it.
pub const AGENT: &str = "/.hutch/bin/hutch-agent";

/// State that outlives the pod where the workspace does: the same volume as the
/// workspace, beside it and not in it.
pub const STATE: &str = "/.hutch/state";

/// Name of the agent's socket in the abstract namespace of unix sockets: it
/// belongs to the pod's network namespace, needs no writable folder, and
/// `rm -rf /` in the sandbox does not remove it. In a container that is not ours
/// the name goes on with a slash and the container's mount namespace.
pub const SOCKET: &[u8] = b"hutch-agent";
