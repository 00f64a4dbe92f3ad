//! KeyedMutex a start request into a running process.
//!
//! There is no await in it. That guarantees that an id starts at most once and that the
//! reaper misses no end. If a shell would only print an error for a command (not found,
//! not executable), that is the result of an execution and not an RPC error. RPC errors
//! are only invalid starts and a sandbox without resources.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hutch_wire::v1::{Exit, Start};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use super::course::{Course, follow};
use super::idle_shell::input;
use super::request::{Checked, check};
use super::{Execution, Executions, ShellPool, Source};
use crate::process::launch::INHERITED;
use crate::process::program::describe;
use crate::process::shell::Shell;
use crate::process::{
    Ended, Environment, Launch, NotLaunched, Pid, Reaper, WorkingDirectory, launch,
};

/// Starts executions.
#[derive(Debug)]
pub struct Starter {
    /// The agent's working directory.
    pub home: WorkingDirectory,
    /// The agent's environment.
    pub environment: Environment,
    /// An input that is at its end (`/dev/null`).
    pub nothing: OwnedFd,
    pub reaper: Reaper,
    /// Where executions are registered.
    pub executions: Arc<Executions>,
    /// Idle shells for scripts.
    pub shells: Arc<ShellPool>,
}

/// A process, its end, and the agent's ends of its pipes.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub main: Pid,
    /// Its end.
    pub ended: oneshot::Receiver<Ended>,
    /// Its output.
    pub stdout: Receiver,
    /// Its error output.
    pub stderr: Receiver,
    /// Its input, if the client feeds it.
    pub stdin: Option<Sender>,
}

/// Why there is no process.
enum NotStarted {
    /// The RPC fails.
    Refused(Status),
    /// The execution ends with this exit code and this line on stderr.
    Result(i32, String),
}

impl From<Status> for NotStarted {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl Starter {
    /// Starts what the client asks for.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an invalid start, ALREADY_EXISTS for a known id,
    /// RESOURCE_EXHAUSTED if the sandbox cannot have another process,
    /// FAILED_PRECONDITION for a script without a shell.
    pub fn start(&self, mut start: Start) -> Result<Arc<Execution>, Status> {
        let (program, directory) = check(&mut start)?;
        if self.executions.find(&start.id).is_some() {
            return Err(Status::already_exists("an execution of this id is known"));
        }
        let begun = Instant::now();
        let started = match self.run(&program, &directory, &start) {
            Ok(started) => started,
            Err(NotStarted::Refused(status)) => return Err(status),
            Err(NotStarted::Result(code, line)) => {
                return Ok(self.without_process(start, code, &line));
            }
        };
        let limit = start.output_limit;
        let execution = Arc::new(Execution::new(start.id, start.stdin, limit));
        self.executions.add(&execution);
        tokio::spawn(follow(Course {
            execution: Arc::clone(&execution),
            executions: Arc::clone(&self.executions),
            main: started.main,
            ended: started.ended,
            stdout: started.stdout,
            stderr: started.stderr,
            stdin: started.stdin,
            begun,
            timeout: Duration::from_millis(start.timeout_ms),
            stop: None,
            early: None,
            settle: None,
        }));
        Ok(execution)
    }

    /// Records the result of a command that a shell would have refused to run.
    fn without_process(&self, start: Start, code: i32, line: &str) -> Arc<Execution> {
        let execution = Arc::new(Execution::new(start.id, false, start.output_limit));
        self.executions.add(&execution);
        execution.add_output(Source::Stderr, line.as_bytes());
        execution.process_ended();
        execution.complete(Exit {
            code,
            ..Exit::default()
        });
        self.executions.ended(&execution);
        execution
    }

    fn run(
        &self,
        program: &Checked,
        directory: &CStr,
        start: &Start,
    ) -> Result<Started, NotStarted> {
        let plain = directory.is_empty() && start.env.is_empty() && !start.stdin;
        if let (true, Checked::Script(script)) = (plain, program)
            && let Some(started) = self.shells.run_script(script)
        {
            return Ok(started);
        }
        let environment = &self.environment.with(&start.env);
        let _visit = self
            .home
            .visit(directory)
            .map_err(|problem| no_directory(directory, problem))?;
        // Everything that may fail comes before the launch: a running process must be
        // registered.
        let (stdout, stdout_child) = output_pipe()?;
        let (stderr, stderr_child) = output_pipe()?;
        let (stdin_child, stdin) = input(start.stdin)?;
        let input = stdin_child.as_ref().unwrap_or(&self.nothing).as_fd();
        let output = (stdout_child.as_fd(), stderr_child.as_fd());
        let main = match program {
            Checked::Arguments(arguments) => launch(&Launch {
                arguments,
                file: None,
                environment,
                stdin: input,
                output: Some(output),
                inherited: &[],
            })
            .map_err(|problem| not_launched(arguments[0].as_c_str(), problem))?,
            Checked::Script(script) => run_script(script, environment, input, output)?,
        };
        Ok(Started {
            main,
            ended: self.reaper.watch(main),
            stdout,
            stderr,
            stdin,
        })
    }
}

fn run_script(
    script: &[u8],
    environment: &Environment,
    stdin: BorrowedFd<'_>,
    output: (BorrowedFd<'_>, BorrowedFd<'_>),
) -> Result<Pid, NotStarted> {
    let shell = Shell::find(environment.path()).ok_or_else(|| {
        Status::failed_precondition(
            "the image has no shell (neither bash nor sh): run a program with its arguments (argv)",
        )
    })?;
    let invocation = shell.invoke(script).map_err(exhausted)?;
    let launched = launch(&Launch {
        arguments: &invocation.arguments,
        file: Some(&shell.file),
        environment,
        stdin,
        output: Some(output),
        inherited: invocation
            .inherited
            .as_ref()
            .map(|file| (file.as_fd(), INHERITED))
            .as_slice(),
    });
    launched.map_err(|problem| not_launched(&shell.file, problem))
}

/// A pipe that children do not inherit (close-on-exec).
///
/// # Errors
/// RESOURCE_EXHAUSTED if no descriptors are left.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Status> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|problem| exhausted(problem.into()))
}

/// A pipe for output: the agent's end and the child's end.
///
/// # Errors
/// RESOURCE_EXHAUSTED if no descriptors are left.
pub fn output_pipe() -> Result<(Receiver, OwnedFd), Status> {
    let (ours, child) = pipe()?;
    Ok((Receiver::from_owned_fd(ours).map_err(exhausted)?, child))
}

/// The error for a sandbox that has no resources for another process.
pub fn exhausted(problem: std::io::Error) -> Status {
    Status::resource_exhausted(format!(
        "the sandbox cannot start another process: {problem}"
    ))
}

fn no_directory(directory: &CStr, problem: Errno) -> NotStarted {
    NotStarted::Result(
        1,
        format!(
            "cd: {}: {}\n",
            directory.to_string_lossy(),
            describe(problem)
        ),
    )
}

fn not_launched(name: &CStr, problem: NotLaunched) -> NotStarted {
    let path = name.to_bytes().contains(&b'/');
    let name = name.to_string_lossy();
    let (code, line) = match problem {
        NotLaunched::Exhausted(problem) => return exhausted(problem.into()).into(),
        NotLaunched::NotFound if path => (127, format!("{name}: No such file or directory\n")),
        NotLaunched::NotFound => (127, format!("{name}: command not found\n")),
        NotLaunched::NoInterpreter => (
            127,
            format!("{name}: cannot execute: required file not found\n"),
        ),
        NotLaunched::NotExecutable(problem) => (126, format!("{name}: {}\n", describe(problem))),
    };
    NotStarted::Result(code, line)
}
