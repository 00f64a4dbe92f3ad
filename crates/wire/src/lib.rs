//! The parts that both ends of the channel to the in-pod agent share: the generated
//! protocol, its limits, the agent's paths in a pod and the version rule. Nothing here
//! does I/O.

pub mod limits;
pub mod paths;

/// Messages, client and server generated from the files in `proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("hutch.agent.v1");
}

/// The protocol version of this build. It increases only with a change that breaks the
/// other end; new fields and calls do not count.
pub const PROTOCOL: u32 = 1;

/// True if a peer with this protocol version is compatible.
///
/// A running sandbox keeps the agent it started with, so a facade meets agents of
/// earlier releases. They are served as long as the protocol version is the same.
pub const fn compatible(protocol: u32) -> bool {
    protocol == PROTOCOL
}
