//! Namespace helpers: child processes with one thread. A process with several threads may
//! not enter a mount namespace. So this binary executes itself, sends the task as JSON on
//! stdin and reads the answer as JSON from stdout. A helper has no async runtime and no
//! Kubernetes client.

mod attach;
mod detach;
mod directories;
mod start;
mod unmount_path;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Error, Process};

pub use attach::Attach;
pub use detach::{Detach, MounterState};
pub use start::Start;
pub use unmount_path::{Removal, UnmountPath};

/// The first argument of the binary that makes it a namespace helper.
pub const COMMAND: &str = "ns-helper";
/// The running binary, even if its file has been replaced.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// The task of one helper.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// Become a mounter.
    Start(Start),
    /// Attach a clone of a mount at a target.
    Attach(Attach),
    /// Detach it again.
    Detach(Detach),
    /// Unmount everything at a path of the host.
    UnmountPath(UnmountPath),
}

/// The directories that the task created, the outermost first.
type Answer = Result<Vec<PathBuf>, Error>;

/// Runs a task in a helper process and returns its answer.
///
/// # Errors
/// The task's own error, or [`Error::Mounter`] if there is no answer within `limit`.
pub async fn run_task(task: Task, limit: Duration) -> Answer {
    let mut child = Command::new(OWN_PROGRAM)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let input = serde_json::to_vec(&task).map_err(std::io::Error::from)?;
    let answered = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&input).await?;
        }
        child.wait_with_output().await
    };
    let Ok(output) = tokio::time::timeout(limit, answered).await else {
        return Err(Error::Mounter(format!(
            "a namespace helper did not end within {limit:?}"
        )));
    };
    serde_json::from_slice(&output?.stdout).unwrap_or_else(|_| {
        Err(Error::Mounter(
            "a namespace helper ended without an answer".to_owned(),
        ))
    })
}

/// The helper process: runs the task from stdin. It does not return if it becomes a mounter.
pub fn run() -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().read_to_end(&mut input);
    let task = read.and_then(|_| Ok(serde_json::from_slice(&input)?));
    let answer = match task {
        Err(error) => Err(Error::from(error)),
        Ok(Task::Start(start)) => {
            // Its stdout is the mounter's log file, so it sends no JSON answer.
            let error = start.run();
            println!("it cannot be started: {error}");
            return ExitCode::FAILURE;
        }
        Ok(Task::Attach(attach)) => attach.run(),
        Ok(Task::Detach(detach)) => detach.run(),
        Ok(Task::UnmountPath(unmount)) => unmount.run(),
    };
    // The reader may have timed out.
    let _ = serde_json::to_writer(std::io::stdout(), &answer);
    ExitCode::SUCCESS
}

/// A mount namespace to enter. It is opened while `/proc` is still the host's.
struct MountNamespace(File);

impl MountNamespace {
    /// The namespace of `container`, or of PID 1 for `None`. If this process may not inspect
    /// PID 1, it runs on the host itself, and its own namespace is the host's.
    fn of(container: Option<Process>) -> Result<Self, Error> {
        let pid = container.map_or(1, |process| process.pid);
        let file = File::open(format!("/proc/{pid}/ns/mnt"));
        match (file, container) {
            (Ok(file), Some(process)) if process.runs() => Ok(Self(file)),
            (Ok(file), None) => Ok(Self(file)),
            (Err(_), None) => Ok(Self(File::open("/proc/self/ns/mnt")?)),
            _ => Err(Error::Gone),
        }
    }

    fn enter(&self) -> Result<(), Error> {
        let kind = Some(LinkNameSpaceType::Mount);
        Ok(move_into_link_name_space(self.0.as_fd(), kind).map_err(std::io::Error::from)?)
    }
}
