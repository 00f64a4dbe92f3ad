//! The `Files` service: file contents as bytes. No shell is involved.
//!
//! `place` resolves paths and refuses those that the user must not touch. `draft` makes
//! files appear completely or not at all. `read`, `write`, `change` and `look`
//! implement the calls, `service` translates from gRPC. A disk may be slow and a
//! mounted bucket may hang, so every system call on files runs on a worker thread
//! (`worker`), never on the agent's main thread. The main thread may change its working
//! directory at any time, so paths here start at an open directory.

mod change;
mod copy;
mod draft;
pub mod error;
pub mod look;
pub mod place;
pub mod read;
pub mod request;
mod service;
pub mod worker;
mod write;

pub use service::{CLIENT_STALL_TIMEOUT, Files};
pub use worker::{MAX_THREADS, STACK_BYTES, THREAD_IDLE_TIMEOUT};
