//! The `hutch` binary.

use std::process::ExitCode;

use clap::Parser;
use hutch::cli::Cli;

fn main() -> ExitCode {
    hutch_process::limit_allocator();
    match hutch::runtime::main(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hutch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
