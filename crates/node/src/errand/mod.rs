//! Errands: what a process of one thread has to do, as mount namespaces belong to
//! threads and a process with several may not change them. This binary runs
//! itself once more, tells the errand on stdin and reads the answer from stdout.
//! Whoever runs here has no runtime, no client and nothing to say but the answer.

mod attach;
mod clear;
mod detach;
mod spot;
mod start;

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
pub use clear::Clear;
pub use detach::Detach;
pub use start::Start;

/// Subcommand of the binary that runs one.
pub const COMMAND: &str = "errand";
/// This very binary, also when its file has been replaced.
pub const SELF: &str = "/proc/self/exe";

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub enum Errand {
    /// Become a mounter.
    Start(Start),
    /// Put a clone of a mount into a place.
    Attach(Attach),
    /// Take it away again.
    Detach(Detach),
    /// Take away whatever is at a path of the host.
    Clear(Clear),
}

/// Folders that were made on the way, the outermost first, or what went wrong.
type Answer = Result<Vec<PathBuf>, Error>;

/// Has an errand run by a process of its own and returns its answer.
///
/// # Errors
/// The errand's own, or that there was no answer within `limit`.
pub async fn send(errand: Errand, limit: Duration) -> Answer {
    let mut child = Command::new(SELF)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let told = serde_json::to_vec(&errand).map_err(std::io::Error::from)?;
    let answered = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&told).await?;
        }
        child.wait_with_output().await
    };
    let Ok(output) = tokio::time::timeout(limit, answered).await else {
        return Err(Error::Mounter(format!("no end of it within {limit:?}")));
    };
    serde_json::from_slice(&output?.stdout)
        .unwrap_or_else(|_| Err(Error::Mounter("an errand was lost".to_owned())))
}

/// Runs the errand that stdin tells; does not return when it is to become a mounter.
pub fn run() -> ExitCode {
    let mut told = Vec::new();
    let read = std::io::stdin().read_to_end(&mut told);
    let errand = read.and_then(|_| Ok(serde_json::from_slice(&told)?));
    let answer = match errand {
        Err(error) => Err(Error::from(error)),
        Ok(Errand::Start(start)) => {
            // Its output is the mounter's: there is nobody to read an answer.
            let error = start.run();
            println!("it cannot be started: {error}");
            return ExitCode::FAILURE;
        }
        Ok(Errand::Attach(attach)) => attach.run(),
        Ok(Errand::Detach(detach)) => detach.run(),
        Ok(Errand::Clear(clear)) => clear.run(),
    };
    // The reader may have given up.
    let _ = serde_json::to_writer(std::io::stdout(), &answer);
    ExitCode::SUCCESS
}

/// A mount namespace to be entered, opened while `/proc` is the host's.
struct Space(File);

impl Space {
    /// That of a process; of PID 1 where none is named. Where this process may not
    /// look at PID 1 it is on the host itself, and stays in its own.
    fn of(target: Option<Process>) -> Result<Self, Error> {
        let pid = target.map_or(1, |process| process.pid);
        let file = File::open(format!("/proc/{pid}/ns/mnt"));
        match (file, target) {
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
