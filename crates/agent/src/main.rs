//! `hutch-agent`: PID 1 of every sandbox, and the small commands that go with it.
//!
//! `run` serves the protocol of `hutch-wire` on an abstract unix socket and
//! owns every process it starts; `connect` joins stdin and stdout to that
//! socket, and brings `run` up where the container is not Hutch's; `install`
//! copies the binary. Nothing here needs anything of the
//! image: no shell, no libc, no files. Nothing may panic, for a sandbox dies
//! with its PID 1.

mod attach;
mod both;
mod cli;
mod connect;
mod execution;
mod files;
mod install;
mod lock;
mod log;
mod process;
mod run;
mod search;
mod server;
mod session;
mod socket;

use std::process::ExitCode;

use cli::Command;
use rustix::process::getpid;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let outcome = match cli::parse(arguments) {
        Ok(Command::Print(text)) => {
            cli::print(&text);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Run {
            state,
            entrypoint,
            attached,
        }) => run::run(&state, &entrypoint, attached),
        Ok(Command::Connect { start }) => connect::connect(start),
        Ok(Command::Install(folder)) => install::install(&folder),
        Err(problem) => {
            log::line(&problem);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log::line(&problem.to_string());
            // The pod's status is for the container's own end.
            if getpid().is_init() {
                log::last_words(&problem.to_string());
            }
            ExitCode::FAILURE
        }
    }
}
