//! The `hutch-node` binary.

use std::process::ExitCode;

use clap::Parser;
use hutch_node::{NodeSettings, errand, role};

fn main() -> ExitCode {
    // Before anything else: setns(2) into a mount namespace fails in a process with
    // threads, and a mount is not to wait for a command line to be parsed.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == errand::COMMAND)
    {
        return errand::run();
    }
    hutch_process::limit_allocator();
    match role::run(NodeSettings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hutch-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}
