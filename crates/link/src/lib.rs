//! The link to the agents in the sandboxes' pods. `socket` turns an exec stream
//! of the API server into a byte stream, `agent` speaks the agent's protocol
//! over it, `guest` brings one into pods of others, `pool` keeps one channel per pod and carries commands across lost
//! ones; `sessions`, `files` and `search` are the calls that a lost channel ends.
//! It knows pods only; which sandbox a pod belongs to is not its business.

mod agent;
mod call;
mod execution;
mod files;
mod guest;
mod pool;
mod search;
mod sessions;
mod socket;

pub use pool::{Pool, PoolSettings};
