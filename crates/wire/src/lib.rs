//! What both ends of the channel to the in-pod agent share: the generated
//! protocol, its limits, where things lie in a pod, and the version rule.
//! Nothing here does I/O.

pub mod limits;
pub mod paths;

/// Messages, client and server generated from the files in `proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("hutch.agent.v1");
}

/// The protocol this build speaks. It grows only when a change would break the
/// other end; new fields and calls do not count.
pub const PROTOCOL: u32 = 1;

/// Whether a peer that speaks `protocol` can be talked to.
///
/// A running sandbox keeps the agent it started with, so a facade meets agents
/// of earlier releases; they are served as long as the protocol's number is the
/// same.
pub const fn compatible(protocol: u32) -> bool {
    protocol == PROTOCOL
}
