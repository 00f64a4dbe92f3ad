//! The agent's paths in a pod. The controller mounts them and the agent uses them.

/// Directory of the agent's binary, read-only for the sandbox.
pub const BIN: &str = "/.hutch/bin";

/// The agent's binary, as the controller starts it.
pub const AGENT: &str = "/.hutch/bin/hutch-agent";

/// State that survives the pod if the workspace does: on the same volume, beside the
/// workspace and not in it.
pub const STATE: &str = "/.hutch/state";

/// Name of the agent's abstract unix socket. It belongs to the pod's network namespace,
/// needs no writable directory and survives `rm -rf /` in the sandbox. In a container
/// that Hutch did not create, a slash and the id of the container's mount namespace
/// follow.
pub const SOCKET: &[u8] = b"hutch-agent";
