//! Shells that wait for a script. Starting bash is the larger part of a short
//! command's time, so a few are started ahead while commands come, and ended
//! when none has come for a while. One runs what `bash -c SCRIPT` would run:
//! same name, same options, same variables; it is used for scripts that ask for
//! nothing of their own (directory, environment, input), and where it is not
//! there the script is run by a fresh shell.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::held::{Held, Hold};
use super::start::Started;
use crate::lock::Lock;
use crate::process::shell::Shell;
use crate::process::{Environment, Reaper};

/// Shells kept waiting: one in use, one coming up, and one in hand.
const KEPT: usize = 3;
/// They end when no script has come for this long.
const IDLE: Duration = Duration::from_secs(10);
/// The answer of the command that used one goes before its successor's start.
const REST: Duration = Duration::from_millis(1);
/// Longest script that is handed to one.
const LONGEST: usize = 1 << 20;

/// Waits for a line on descriptor 100, then runs the script in 101.
/// `mapfile -d` came with bash 4.4: an older one ends here and is never used.
/// `BASH_EXECUTION_STRING` is what `-c` has of its script.
const WAIT: &[u8] = b"((BASH_VERSINFO[0]*100+BASH_VERSINFO[1]>=404))&&read -r -u 100&&mapfile -d '' -u 101&&exec 100<&- 101<&-&&BASH_EXECUTION_STRING=$MAPFILE&&unset MAPFILE REPLY&&eval -- \"$BASH_EXECUTION_STRING\"";

/// The shells that wait.
#[derive(Debug)]
pub struct Waiting {
    shells: Lock<VecDeque<Held>>,
    used: Notify,
    environment: Environment,
    nothing: OwnedFd,
    reaper: Reaper,
    possible: bool,
}

impl Waiting {
    /// None yet; they will have this environment, and `nothing` as their input.
    pub fn new(environment: &Environment, nothing: OwnedFd, reaper: &Reaper) -> Self {
        // What BASH_ENV names is run when a shell starts, and belongs to the
        // command that it is started for.
        let variables = environment.variables().iter();
        let clean = !variables
            .into_iter()
            .any(|v| v.to_bytes().starts_with(b"BASH_ENV="));
        Self {
            shells: Lock::default(),
            used: Notify::new(),
            environment: environment.clone(),
            nothing,
            reaper: reaper.clone(),
            possible: clean,
        }
    }

    /// Has a waiting shell run `script`; none where there is no such shell.
    pub fn run(&self, script: &[u8]) -> Option<Started> {
        if !self.possible || script.len() > LONGEST || script.contains(&0) {
            return None;
        }
        self.used.notify_one();
        loop {
            let mut shell = self.shells.lock().pop_front()?;
            if shell.lives()
                && let Ok((started, _)) = shell.go(script)
            {
                return Some(started);
            }
        }
    }

    /// Keeps shells waiting while scripts come.
    pub async fn keep(self: Arc<Self>) {
        loop {
            self.used.notified().await;
            loop {
                sleep(REST).await;
                self.refill().await;
                if timeout(IDLE, self.used.notified()).await.is_err() {
                    break;
                }
            }
            self.shells.lock().clear();
        }
    }

    /// Starts what is missing. That none can be started is no error: a fresh
    /// shell will tell why, if it matters.
    async fn refill(&self) {
        while self.shells.lock().len() < KEPT {
            let Some(shell) = self.start() else { return };
            self.shells.lock().push_back(shell);
            tokio::task::yield_now().await;
        }
    }

    fn start(&self) -> Option<Held> {
        let shell = Shell::bash(self.environment.path())?;
        let hold = Hold {
            file: &shell.file,
            arguments: &shell.invoke(WAIT).ok()?.arguments,
            environment: &self.environment,
            nothing: self.nothing.as_fd(),
            fed: false,
            numbers: [100, 101],
            inherited: &[],
        };
        Held::start(&hold, &self.reaper).ok()
    }
}
