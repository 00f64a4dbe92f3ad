//! A shell of a session: started and restored ahead of its command, then given
//! it. Each runs one command and ends. How it waits is `execution`'s; what it
//! restores and dumps is `text`'s.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use tonic::Status;

use super::dump::Dump;
use super::text;
use super::value::{Kind, Value};
use crate::execution::{Held, Hold, Started, Starter, exhausted, fill, memory};
use crate::process::Environment;
use crate::process::shell::Shell;

/// Variables that would act on a shell before it can defend itself.
pub const WITHHELD: [&str; 5] = [
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "POSIXLY_CORRECT",
];

/// The numbers of a shell's files: its line, its command, what it restores ahead
/// and right before the command, and its dump. bash knows numbers that no
/// command uses; other shells know none past 9.
const BASH: [i32; 5] = [100, 101, 102, 103, 104];
const POSIX: [i32; 5] = [9, 8, 6, 7, 5];

/// A shell that waits for its command.
#[derive(Debug)]
pub struct Waiting {
    held: Held,
    /// The value it has restored.
    pub value: Value,
    /// Where it dumps.
    pub dump: Dump,
    last: OwnedFd,
}

/// The shell that sessions have, and the kind of its values.
pub fn find(environment: &Environment) -> Option<(Shell, Kind)> {
    let shell = Shell::find(environment.path())?;
    let kind = if shell.is_bash() {
        Kind::Bash
    } else {
        Kind::Posix
    };
    Some((shell, kind))
}

impl Waiting {
    /// Starts a shell that restores `value` and then waits.
    ///
    /// # Errors
    /// FAILED_PRECONDITION where there is no shell, RESOURCE_EXHAUSTED where
    /// there is nothing left for it.
    pub fn start(
        starter: &Starter,
        value: Value,
        dump: Dump,
        with_stdin: bool,
    ) -> Result<Self, Status> {
        let (shell, kind) = find(&starter.environment).ok_or_else(no_shell)?;
        let value = value.suited(kind);
        let ahead = memory(&text::restore(&value)).map_err(exhausted)?;
        let last = memory(b"").map_err(exhausted)?;
        let [line, command, ahead_number, last_number, out] = match kind {
            Kind::Bash => BASH,
            Kind::Posix => POSIX,
        };
        let files = [
            (ahead.as_fd(), ahead_number),
            (last.as_fd(), last_number),
            (dump.memory.as_fd(), out),
        ];
        // Other shells leave the dump's number to their commands.
        let inherited = &files[..if kind == Kind::Bash { 3 } else { 2 }];
        let hold = Hold {
            file: &shell.file,
            arguments: &arguments(kind, &starter.environment, &dump).map_err(exhausted)?,
            environment: &starter.environment.without(&WITHHELD),
            nothing: starter.nothing.as_fd(),
            fed: with_stdin,
            numbers: [line, command],
            inherited,
        };
        let held = Held::start(&hold, &starter.reaper)?;
        Ok(Self {
            held,
            value,
            dump,
            last,
        })
    }

    /// Gives it its command, with what is to be restored right before it.
    ///
    /// # Errors
    /// When there is no memory for the command.
    pub fn go(self, last: &[u8], command: &[u8]) -> io::Result<Running> {
        fill(&self.last, last)?;
        let (started, line) = self.held.go(command)?;
        Ok(Running {
            started,
            line,
            value: self.value,
            dump: self.dump,
        })
    }

    /// Whether it still waits.
    pub fn lives(&mut self) -> bool {
        self.held.lives()
    }
}

/// A shell that runs its command.
#[derive(Debug)]
pub struct Running {
    /// Its process and pipes.
    pub started: Started,
    /// The agent's end of its line.
    pub line: UnixStream,
    /// The value it had restored.
    pub value: Value,
    /// Where it dumps.
    pub dump: Dump,
}

/// Why there are no sessions in an image without a shell.
pub fn no_shell() -> Status {
    Status::failed_precondition(
        "the image has no shell (neither bash nor sh), which sessions need: \
         run a program with its arguments (argv), without a session",
    )
}

fn arguments(kind: Kind, environment: &Environment, dump: &Dump) -> io::Result<Vec<CString>> {
    let names = environment.names();
    let names: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !WITHHELD.contains(name))
        .collect();
    let mut exports = String::new();
    for name in ["BASH_ENV", "ENV"] {
        if let Some(value) = environment.get(name)
            && let Ok(word) = String::from_utf8(text::quote(value))
        {
            exports += &format!("export {name}={word}\n");
        }
    }
    let out = dump.out.as_os_str().as_bytes();
    // A list may not be empty in every shell; this name is always set.
    let names = format!("_ {}", names.join(" "));
    let dump = text::dump(kind, out, &dump.mark, names.trim());
    let begin = CString::new(text::begin(kind, &exports))?;
    let mut arguments: Vec<CString> = match kind {
        Kind::Bash => vec![c"bash".into(), c"--norc".into(), c"--noprofile".into()],
        Kind::Posix => vec![c"sh".into()],
    };
    arguments.extend([c"-c".into(), begin]);
    arguments.push(match kind {
        Kind::Bash => c"bash".into(),
        Kind::Posix => c"sh".into(),
    });
    arguments.push(CString::new(dump)?);
    Ok(arguments)
}
