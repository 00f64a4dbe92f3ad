//! `hutch-agent`: PID 1 of every sandbox, and its helper commands.
//!
//! `run` serves the protocol of `hutch-wire` on an abstract unix socket and owns every
//! process that it starts. `connect` joins stdin and stdout to that socket. `install`
//! copies the binary. The agent needs nothing from the image: no shell, no libc, no
//! files. It must not panic: a sandbox dies with its PID 1.
//!
//! Reading map:
//!
//! - `cli`: the command line. `run`, `connect`, `install`: its commands.
//! - `attach`: starts an agent in a container that Hutch did not create.
//! - `socket`: the abstract socket and who may connect. `server`: the gRPC server
//!   and the `Agent` service. `path_router`: several services on one channel.
//! - `execution`: commands. `execution/window.rs` holds the output limits,
//!   `execution/start.rs` starts processes, `execution/shell_pool.rs` idle shells.
//! - `session`: sessions (shell state between commands); `session/store.rs` has
//!   them on disk, `session/text.rs` the shell texts that save and restore them.
//! - `files`: the `Files` service; `files/place.rs` resolves and refuses paths.
//! - `search`: the `Search` service: grep, find and tree.
//! - `process`: starts, finds, reaps and kills processes; signals.
//! - `lock`: a mutex without poisoning. `log`: the agent's own log.
//!
//! The sizes that both ends agree on are in `hutch_wire::limits`.

mod attach;
mod cli;
mod connect;
mod execution;
mod files;
mod install;
mod lock;
mod log;
mod path_router;
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
        Ok(Command::Connect { start: false }) => connect::connect(),
        Ok(Command::Connect { start: true }) => connect::connect_or_start(),
        Ok(Command::Install(directory)) => install::install(&directory),
        Err(problem) => {
            log::line(&problem);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log::line(&problem.to_string());
            // The pod's status is about PID 1 only.
            if getpid().is_init() {
                log::last_words(&problem.to_string());
            }
            ExitCode::FAILURE
        }
    }
}
