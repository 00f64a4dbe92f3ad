//! Processes of the sandbox: how they are found, started, followed, ended.
//! Nothing here knows the protocol or what a process is for.

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
