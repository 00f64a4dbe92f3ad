//! The agent from outside: a real process, PID 1 of its own pid and network
//! namespaces, driven through `hutch-agent connect` with the real protocol.
//! Needs root for the namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this is test code, also what is no test function"
)]

mod attach;
mod commands;
mod copies;
mod ends;
mod files;
mod guest;
mod machine;
mod output;
mod sandbox;
mod search;
mod session;
mod wait;
