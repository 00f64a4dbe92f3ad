//! The channels to the agents in pods. A channel is one exec stream of the API server
//! with HTTP/2 inside; all requests for a pod share it. At the other end,
//! `hutch-agent connect` joins the stream to the agent's socket.
//!
//! Where to start reading, from the top down:
//!
//! - [`Pool`] keeps one channel per pod and implements the interfaces of
//!   `hutch_core`. It runs commands and continues them on a new channel if the old one
//!   is lost.
//! - `execution` is one command: its output so far, and how to attach to it again.
//! - `sessions`, `files` and `search` are short calls. They fail if the channel is lost.
//!   `call` has their deadline and the meaning of gRPC status codes.
//! - `agent` opens a channel to a sandbox's pod, `attached` to an attached pod. The latter
//!   copies the agent into the pod if necessary.
//! - `socket` makes one byte stream from the WebSocket of an exec.
//!
//! *Invariants:* A command is never sent twice. Every message of an agent is bounded,
//! and unrequested ones are ignored. This crate knows pods only, not sandboxes.

mod agent;
mod attached;
mod call;
mod execution;
mod files;
mod pool;
mod search;
mod sessions;
mod socket;

pub use pool::{Pool, PoolSettings};
