//! Processes of the sandbox: find, start, reap, kill. Nothing here knows the protocol
//! or the purpose of a process.

pub mod environment;
pub mod folder;
pub mod launch;
pub mod program;
pub mod reaper;
pub mod shell;
pub mod signals;
pub mod tree;

pub use environment::Environment;
pub use folder::Home;
pub use launch::{Launch, NotLaunched, launch};
pub use reaper::{Ended, Reaper};
pub use rustix::process::Pid;
