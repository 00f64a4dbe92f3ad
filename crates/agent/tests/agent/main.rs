//! The agent from outside: a real process as PID 1 of its own pid and network namespaces,
//! used through `hutch-agent connect` with the real protocol. The namespaces need root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this is test code, also what is no test function"
)]

mod attach;
mod attached_pod;
mod commands;
mod copies;
mod ends;
mod files;

mod machine;
mod output;
mod sandbox;
mod search;
mod session;
mod wait;
