//! The `hutch-node` binary.

use std::process::ExitCode;

use clap::Parser;
use hutch_node::{NodeSettings, ns_helper, role};

fn main() -> ExitCode {
    // This comes first. setns(2) into a mount namespace fails in a process with threads,
    // and parsing a command line would delay each mount.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == ns_helper::COMMAND)
    {
        return ns_helper::run();
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
