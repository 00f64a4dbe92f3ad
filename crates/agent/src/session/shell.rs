//! A shell of a session: started and restored ahead of its command, then given
//! it. Each runs one command and ends.
//!
//! Its descriptors 6 to 9 are the restore right before the command, the
//! command, the restore ahead of it, and the pipe on which it is told to go.
//! At the end of that pipe without a word, it goes away.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;
use tonic::Status;

use super::text;
use super::value::{Kind, Value};
use crate::execution::{Starter, exhausted, output_pipe, pipe};
use crate::process::shell::Shell;
use crate::process::{Ended, Environment, Launch, Pid, launch, reaper};

/// Lowest number for the agent's own ends, out of the way of the child's.
const OUT_OF_THE_WAY: i32 = 10;
/// Variables that would act on a shell before it can defend itself.
const WITHHELD: [&str; 5] = [
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "POSIXLY_CORRECT",
];

/// A shell that has been started.
#[derive(Debug)]
pub struct Waiting {
    /// Its process.
    pub main: Pid,
    /// Its end.
    pub ended: oneshot::Receiver<Ended>,
    /// Its output.
    pub stdout: Receiver,
    /// Its error output.
    pub stderr: Receiver,
    /// Its input, if that is fed.
    pub stdin: Option<Sender>,
    /// The value it has restored.
    pub value: Value,
    /// Where it dumps.
    pub dump: Dump,
    last: OwnedFd,
    command: OwnedFd,
    go: OwnedFd,
}

/// The files that a shell leaves its value in.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The value.
    out: PathBuf,
    /// The variables that were hidden for the time of the command.
    saved: PathBuf,
    mark: String,
}

impl Dump {
    /// Files of that number in `folder`. The mark is not for anybody to guess,
    /// as it must not be met in a value.
    pub fn new(folder: PathBuf, number: u64, mark: &str) -> Self {
        Self {
            out: folder.join(format!("out-{number}")),
            saved: folder.join(format!("saved-{number}")),
            mark: format!("{mark}-{number}"),
        }
    }

    /// Takes what the shell has left.
    pub fn take(&self, kind: Kind) -> Option<Value> {
        let value = super::store::read(&self.out).ok();
        let value = value.and_then(|bytes| text::parse(kind, &bytes, &self.mark));
        let saved = super::store::read(&self.saved);
        self.remove();
        let mut value = value?;
        value.variables.extend(saved.unwrap_or_default());
        Some(value)
    }

    /// The path of the saved variables.
    pub fn saved(&self) -> &[u8] {
        self.saved.as_os_str().as_bytes()
    }

    /// Removes the files.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.out);
        let _ = fs::remove_file(&self.saved);
    }
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
        let arguments = arguments(kind, &starter.environment, &dump).map_err(exhausted)?;
        let (stdout, stdout_child) = output_pipe()?;
        let (stderr, stderr_child) = output_pipe()?;
        let (go_child, go) = pipe()?;
        let (stdin_child, stdin) = input(with_stdin)?;
        let ahead = memory(&text::restore(&value)).map_err(exhausted)?;
        let last = memory(b"").map_err(exhausted)?;
        let command = memory(b"").map_err(exhausted)?;
        let go_child = away(go_child).map_err(exhausted)?;
        let main = launch(&Launch {
            arguments: &arguments,
            file: Some(&shell.file),
            environment: &starter.environment.without(&WITHHELD),
            stdin: stdin_child.as_ref().unwrap_or(&starter.nothing).as_fd(),
            output: Some((stdout_child.as_fd(), stderr_child.as_fd())),
            inherited: &[
                (last.as_fd(), 6),
                (ahead.as_fd(), 7),
                (command.as_fd(), 8),
                (go_child.as_fd(), 9),
            ],
        });
        let main = main.map_err(|problem| {
            Status::resource_exhausted(format!("the session's shell did not start: {problem:?}"))
        })?;
        let ended = starter.reaper.watch(main);
        Ok(Self {
            main,
            ended,
            stdout,
            stderr,
            stdin,
            value,
            dump,
            last,
            command,
            go,
        })
    }

    /// Gives it its command, with what is to be restored right before it.
    ///
    /// # Errors
    /// When there is no memory for the command.
    pub fn go(&self, last: &[u8], command: &[u8]) -> io::Result<()> {
        fill(&self.last, last)?;
        fill(&self.command, command)?;
        rustix::io::write(&self.go, b"\n")?;
        Ok(())
    }

    /// Whether it still waits. One that is just being killed counts as waiting;
    /// then its command ends by that signal before it has begun.
    pub fn lives(&mut self) -> bool {
        let told = self.ended.try_recv();
        matches!(told, Err(oneshot::error::TryRecvError::Empty)) && reaper::runs(self.main)
    }
}

/// The child's and the agent's end of standard input, if it is fed.
fn input(fed: bool) -> Result<(Option<OwnedFd>, Option<Sender>), Status> {
    if !fed {
        return Ok((None, None));
    }
    let (child, ours) = pipe()?;
    let ours = Sender::from_owned_fd(ours).map_err(exhausted)?;
    Ok((Some(child), Some(ours)))
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

/// A file without a name.
fn memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = away(memfd_create(c"session", MemfdFlags::CLOEXEC)?)?;
    fill(&file, bytes)?;
    Ok(file)
}

fn away(file: OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(&file, OUT_OF_THE_WAY)?)
}

fn fill(file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = rustix::io::write(file, rest)?;
        rest = &rest[count..];
    }
    Ok(())
}
