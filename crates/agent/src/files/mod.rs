//! Files of the sandbox, moved as bytes; no shell is ever involved.
//!
//! `place` finds where a path leads and refuses what is not the user's, `draft`
//! makes files appear whole or not at all, `read`, `write`, `change` and `look`
//! are the calls, `service` translates from gRPC. A disk may be slow and a
//! mounted bucket may hang, so every system call on files happens on a worker
//! thread (`worker`), never on the agent's own; and as that one changes its
//! working directory at will, paths here begin at an open folder.

mod change;
mod copy;
mod draft;
pub mod look;
pub mod place;
pub mod read;
pub mod request;
mod service;
pub mod trouble;
pub mod worker;
mod write;

pub use service::{Files, PATIENCE};
pub use worker::{IDLE, STACK, THREADS};
