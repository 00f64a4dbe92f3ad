//! A shell of a session. It starts and restores the value before its command arrives. Then
//! it gets the command, runs it and exits. `execution` implements the waiting, `text` the
//! restore and dump scripts.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use tonic::Status;

use super::dump::{Dump, MAX_DUMP_BYTES};
use super::text;
use super::value::{Kind, Value};
use crate::execution::{
    FILES as BASH_FILES, GO, IdleShell, IdleShellSpec, LINE as BASH_LINE, SESSION, Started,
    Starter, WAIT, WITHHELD, exhausted,
};
use crate::process::Environment;
use crate::process::shell::Shell;

/// Descriptor numbers of the control socket and the files in a shell that is not bash;
/// such shells know none above 9.
const LINE: i32 = 9;
const FILES: [i32; 3] = [8, 6, 7];
/// Indexes of the files: the command, the early restore, the restore right before the
/// command, and (bash only) the dump.
const COMMAND: usize = 0;
const AHEAD: usize = 1;
const LAST: usize = 2;
const DUMP: usize = 3;

/// A shell that has restored a value and waits for its command.
#[derive(Debug)]
pub struct PreparedShell {
    held: IdleShell,
    /// The value it has restored.
    pub value: Value,
    dump: Dump,
}

/// The kind of values for this image's shell; `None` if there is no shell.
pub fn kind(starter: &Starter) -> Option<Kind> {
    if starter.shells.copies() {
        return Some(Kind::Bash);
    }
    let shell = Shell::find(starter.environment.path())?;
    Some(kind_of(&shell))
}

fn kind_of(shell: &Shell) -> Kind {
    if shell.is_bash() {
        Kind::Bash
    } else {
        Kind::Posix
    }
}

impl PreparedShell {
    /// Starts a shell that restores `value` and then waits.
    ///
    /// # Errors
    /// FAILED_PRECONDITION without a shell, RESOURCE_EXHAUSTED without resources for
    /// it.
    pub fn start(
        starter: &Starter,
        value: Value,
        dump: Dump,
        with_stdin: bool,
    ) -> Result<Self, Status> {
        let kept = if with_stdin {
            None
        } else {
            starter.shells.take()
        };
        let (held, kind) = match kept {
            Some(kept) => (kept, Kind::Bash),
            None => {
                let shell = Shell::find(starter.environment.path()).ok_or_else(no_shell)?;
                let held = start(starter, &shell, &dump, with_stdin)?;
                (held, kind_of(&shell))
            }
        };
        let value = value.suited(kind);
        let mut ahead = Vec::new();
        if kind == Kind::Bash {
            let text = dump.text(kind, held.copied, &starter.environment);
            ahead = text::prepare(&text, &exports(&starter.environment));
            held.bound(DUMP, MAX_DUMP_BYTES as u64).map_err(exhausted)?;
        }
        ahead.extend(text::restore(&value));
        held.fill(AHEAD, &ahead)
            .and_then(|()| held.say(SESSION))
            .map_err(exhausted)?;
        Ok(Self { held, value, dump })
    }

    /// Passes the command and the final restore to the shell, which then runs it.
    ///
    /// # Errors
    /// If there is no memory for the command.
    pub fn go(self, last: &[u8], command: &[u8]) -> io::Result<RunningShell> {
        self.held.fill(LAST, last)?;
        self.held.fill(COMMAND, command)?;
        self.held.say(b"\n")?;
        let mut dump = self.dump;
        dump.memory = self.held.files.into_iter().nth(DUMP);
        Ok(RunningShell {
            started: self.held.started,
            line: self.held.line,
            value: self.value,
            dump,
        })
    }

    /// True while it waits.
    pub fn lives(&mut self) -> bool {
        self.held.lives()
    }
}

/// A shell that runs its command.
#[derive(Debug)]
pub struct RunningShell {
    /// Its process and pipes.
    pub started: Started,
    /// The agent's end of its control socket.
    pub line: UnixStream,
    /// The value that it had restored.
    pub value: Value,
    /// Where it dumps its value.
    pub dump: Dump,
}

/// The error for sessions in an image without a shell.
pub fn no_shell() -> Status {
    Status::failed_precondition(
        "the image has no shell (neither bash nor sh), which sessions need: \
         run a program with its arguments (argv), without a session",
    )
}

/// Starts a waiting shell.
fn start(starter: &Starter, shell: &Shell, dump: &Dump, fed: bool) -> Result<IdleShell, Status> {
    let environment = &starter.environment;
    let arguments = if shell.is_bash() {
        shell
            .invoke([WAIT, GO].concat().as_bytes())
            .map(|bash| bash.arguments)
    } else {
        posix_arguments(environment, dump)
    };
    let hold = IdleShellSpec {
        file: &shell.file,
        arguments: &arguments.map_err(exhausted)?,
        environment: &environment.without(&WITHHELD),
        nothing: starter.nothing.as_fd(),
        fed,
        line: if shell.is_bash() { BASH_LINE } else { LINE },
        files: if shell.is_bash() { &BASH_FILES } else { &FILES },
    };
    IdleShell::start(&hold, &starter.reaper)
}

fn posix_arguments(environment: &Environment, dump: &Dump) -> io::Result<Vec<CString>> {
    let begin = CString::new(text::begin(&exports(environment)))?;
    let dump = CString::new(dump.text(Kind::Posix, false, environment))?;
    Ok(vec![c"sh".into(), c"-c".into(), begin, c"sh".into(), dump])
}

/// Sets the variables that were withheld at the start but belong to the command.
fn exports(environment: &Environment) -> String {
    let mut exports = String::new();
    for name in ["BASH_ENV", "ENV"] {
        if let Some(value) = environment.get(name)
            && let Ok(word) = String::from_utf8(text::quote(value))
        {
            exports += &format!("export {name}={word}\n");
        }
    }
    exports
}
