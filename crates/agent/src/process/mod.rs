//! Processes of the sandbox: find, start, reap, kill. Nothing here knows the protocol
//! or the purpose of a process.

pub mod environment;
pub mod launch;
pub mod program;
pub mod reaper;
pub mod shell;
pub mod signals;
pub mod tree;
pub mod working_directory;

pub use environment::Environment;
pub use launch::{Launch, NotLaunched, launch};
pub use reaper::{Ended, Reaper};
pub use rustix::process::Pid;
pub use working_directory::WorkingDirectory;
