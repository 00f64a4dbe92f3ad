//! The command line, parsed by hand: an argument parser would add half a megabyte to
//! every sandbox for four commands. Nothing here executes a command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The request of the command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve as the sandbox's first process.
    Run {
        /// Directory of the session values.
        state: PathBuf,
        /// The user's entrypoint and its arguments.
        entrypoint: Vec<OsString>,
        /// Run as an additional process of a container that Hutch did not create.
        attached: bool,
    },
    /// Join stdin and stdout to the agent's socket.
    Connect {
        /// Start this container's agent if none answers.
        start: bool,
    },
    /// Copy this binary into a directory.
    Install(PathBuf),
    /// Print a text (help, version) and exit.
    Print(String),
}

const HELP: &str = "\
hutch-agent runs inside every Hutch sandbox and executes its commands.

Usage:
  hutch-agent run [--state DIR] [--] [ENTRYPOINT [ARGS...]]
      Serve executions on the abstract unix socket @hutch-agent and start the
      entrypoint, if one is given. Meant to be PID 1: it reaps orphans, and as
      PID 1 it ends on a SIGTERM from outside the container only. Relative
      paths and commands without a directory start in its working directory.
      Sessions keep their values in DIR (default /.hutch/state); where that
      cannot be written, in /dev/shm or /tmp, and then they end with the pod.

  hutch-agent connect
      Join standard input and output to that socket, for up to 5 seconds waiting
      for it to appear. This is what Hutch runs through `pods/exec`; the bytes
      are gRPC over HTTP/2, nothing for a terminal.

  hutch-agent connect --start
      The same in a container that is not Hutch's: an agent is started where none
      answers. It runs beside the container's own processes, keeps sessions beside
      its binary and ends with the container.

  hutch-agent run --attached DIR
      How `connect --start` starts it: the socket is descriptor 3.

  hutch-agent install DIR
      Copy this binary to DIR/hutch-agent, for clusters where an init container
      has to bring it.

  hutch-agent --version
  hutch-agent --help
";

/// Parses the arguments after the program's name.
///
/// # Errors
/// A message for the user if the arguments are invalid.
pub fn parse(arguments: Vec<OsString>) -> Result<Command, String> {
    let mut rest = arguments.into_iter();
    let Some(first) = rest.next() else {
        return Err("a command is missing; see hutch-agent --help".into());
    };
    let rest: Vec<OsString> = rest.collect();
    match (first.to_str().unwrap_or_default(), rest.as_slice()) {
        ("run", [state, directory, ..]) if state == "--state" => Ok(Command::Run {
            state: directory.into(),
            entrypoint: entrypoint(rest[2..].to_vec()),
            attached: false,
        }),
        ("run", [attached, directory]) if attached == "--attached" => Ok(Command::Run {
            state: directory.into(),
            entrypoint: Vec::new(),
            attached: true,
        }),
        ("run", _) => Ok(Command::Run {
            state: hutch_wire::paths::STATE.into(),
            entrypoint: entrypoint(rest),
            attached: false,
        }),
        ("connect", []) => Ok(Command::Connect { start: false }),
        ("connect", [start]) if start == "--start" => Ok(Command::Connect { start: true }),
        ("install", [directory]) if !directory.is_empty() => Ok(Command::Install(directory.into())),
        ("install", _) => Err("install takes one directory: hutch-agent install DIR".into()),
        ("--version" | "-V" | "version", _) => Ok(Command::Print(version())),
        ("--help" | "-h" | "help", _) => Ok(Command::Print(HELP.into())),
        (name, _) => Err(format!(
            "cannot understand `{name}`; see hutch-agent --help"
        )),
    }
}

fn entrypoint(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments
        .first()
        .is_some_and(|first| first == OsStr::new("--"))
    {
        arguments.remove(0);
    }
    arguments
}

fn version() -> String {
    format!(
        "hutch-agent {} (protocol {})\n",
        env!("CARGO_PKG_VERSION"),
        hutch_wire::PROTOCOL
    )
}

/// Writes a text to standard output. A failure is ignored: there is nowhere to report
/// it.
pub fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn everything_after_run_is_the_entrypoint() {
        let run = |state: &str, entrypoint: &str| {
            Ok(Command::Run {
                state: state.into(),
                entrypoint: words(entrypoint),
                attached: false,
            })
        };
        let usual = hutch_wire::paths::STATE;
        assert_eq!(parse(words("run")), run(usual, ""));
        assert_eq!(
            parse(words("run -- sleep --help")),
            run(usual, "sleep --help")
        );
        assert_eq!(parse(words("run sleep 5")), run(usual, "sleep 5"));
        assert_eq!(
            parse(words("run --state /s -- sleep 5")),
            run("/s", "sleep 5")
        );
    }

    #[test]
    fn a_command_line_that_makes_no_sense_is_refused() {
        for line in ["", "fly", "connect now", "install", "install a b"] {
            assert!(parse(words(line)).is_err(), "{line}");
        }
    }
}
