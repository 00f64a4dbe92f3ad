//! The `hutch` binary.

use std::process::ExitCode;

use clap::Parser;
use hutch::cli::Cli;

fn main() -> ExitCode {
    match hutch::runtime::main(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hutch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
