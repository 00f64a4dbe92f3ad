//! Shells that wait for a script. Starting bash is the larger part of a short
//! command's time, so a few are started ahead while commands come, and ended
//! when none has come for a while. One runs what `bash -c SCRIPT` would run:
//! same name, same options, same variables; it is used for scripts that ask for
//! nothing of their own (directory, environment, input), and where it is not
//! there the script is run by a fresh shell. Sessions take them, too.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::fork_server::ForkServer;
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

/// Variables that would act on a shell before its script has begun.
pub const WITHHELD: [&str; 5] = [
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "POSIXLY_CORRECT",
];

/// The word of a session. Shells read it letter by letter.
pub const SESSION: &[u8] = b"s\n";

/// The numbers of the line and the files, which are in these texts and in
/// `bash/bash.h`; out of the way of those that scripts use.
pub const LINE: i32 = 100;
/// The script; what a session restores ahead of it, and right before it; what
/// the session's shell leaves.
pub const FILES: [i32; 4] = [101, 102, 103, 104];

/// `mapfile -d` came with bash 4.4: an older one ends here and is never used.
const GUARD: &str = "((BASH_VERSINFO[0]*100+BASH_VERSINFO[1]>=404))&&";

/// Waits for a word on its line; with a time of its own, as `TMOUT` may be set.
pub const WAIT: &str = "read -r -t 1000000 -u 100&&";

/// If the word is empty, runs the script as `-c` does: `BASH_EXECUTION_STRING`
/// is what `-c` has of it. If not, it is a session's: restores, waits for a
/// second word, and runs the script as a file, so that nothing in it can end
/// what is around it. All on one line, which is the first of the script.
pub const GO: &str = "if [[ $REPLY ]];then unset REPLY;. /proc/self/fd/102 2>/dev/null;exec 102<&-;\
read -r -t 1000000 -u 100 __hutch_g||{ trap - EXIT;exit; };\
. /proc/self/fd/103;\\. /proc/self/fd/101;\
else mapfile -d '' -u 101&&exec 100<&- 101<&- 102<&- 103<&- 104<&-&&\
BASH_EXECUTION_STRING=$MAPFILE&&unset MAPFILE REPLY&&eval -- \"$BASH_EXECUTION_STRING\";fi";

/// The shells that wait.
#[derive(Debug)]
pub struct Waiting {
    shells: Lock<VecDeque<Held>>,
    /// Makes them, where this image's bash can be one.
    server: Lock<Option<ForkServer>>,
    used: Notify,
    environment: Environment,
    nothing: OwnedFd,
    reaper: Reaper,
    /// Whether a shell that has nothing withheld would be the same.
    plain: bool,
}

impl Waiting {
    /// None yet; they will have this environment, and `nothing` as their input.
    pub fn new(environment: &Environment, nothing: OwnedFd, reaper: &Reaper) -> Self {
        let plain = WITHHELD.iter().all(|name| environment.get(name).is_none());
        Self {
            shells: Lock::default(),
            server: Lock::default(),
            used: Notify::new(),
            environment: environment.without(&WITHHELD),
            nothing,
            reaper: reaper.clone(),
            plain,
        }
    }

    /// Has a waiting shell run `script`; none where there is no such shell.
    pub fn run(&self, script: &[u8]) -> Option<Started> {
        if !self.plain || script.len() > LONGEST || script.contains(&0) {
            return None;
        }
        loop {
            let shell = self.take()?;
            let told = shell.fill(0, script).and_then(|()| shell.say(b"\n"));
            if told.is_ok() {
                return Some(shell.started);
            }
        }
    }

    /// Whether there is a bash that is copied.
    pub fn copies(&self) -> bool {
        self.server.lock().is_some()
    }

    /// A shell that waits, or one that is made in no time; if there is one.
    pub fn take(&self) -> Option<Held> {
        self.used.notify_one();
        loop {
            let next = self.shells.lock().pop_front();
            let Some(mut shell) = next else {
                return self.copy();
            };
            if shell.lives() {
                return Some(shell);
            }
        }
    }

    /// Keeps shells waiting while scripts come.
    pub async fn keep(self: Arc<Self>) {
        loop {
            self.used.notified().await;
            let mut able = true;
            loop {
                sleep(REST).await;
                // One that was lost is started again, one that cannot be is not.
                if able && !self.copies() {
                    able = self.serve().await;
                }
                self.refill().await;
                if timeout(IDLE, self.used.notified()).await.is_err() {
                    break;
                }
            }
            self.shells.lock().clear();
            *self.server.lock() = None;
        }
    }

    /// Starts what is missing. That none can be started is no error: a fresh
    /// shell will tell why, if it matters.
    async fn refill(&self) {
        while self.shells.lock().len() < KEPT {
            let Some(shell) = self.copy().or_else(|| self.start()) else {
                return;
            };
            self.shells.lock().push_back(shell);
            tokio::task::yield_now().await;
        }
    }

    /// Starts a fork server, and a first copy. Returns whether this sandbox can have
    /// them.
    async fn serve(&self) -> bool {
        let Some(shell) = Shell::bash(self.environment.path()) else {
            return false;
        };
        let nothing = self.nothing.as_fd();
        let server = ForkServer::start(&shell, GO, &self.environment, nothing, &self.reaper);
        let server = server.await;
        *self.server.lock() = server;
        let first = self.copy();
        let serves = first.is_some();
        self.shells.lock().extend(first);
        serves
    }

    /// Has the fork server make one. One that does not is lost.
    fn copy(&self) -> Option<Held> {
        let mut server = self.server.lock();
        let made = Held::copy(server.as_ref()?, LINE, &FILES, &self.reaper);
        if made.is_err() {
            *server = None;
        }
        made.ok()
    }

    fn start(&self) -> Option<Held> {
        let shell = Shell::bash(self.environment.path())?;
        let wait = [GUARD, WAIT, GO].concat();
        let hold = Hold {
            file: &shell.file,
            arguments: &shell.invoke(wait.as_bytes()).ok()?.arguments,
            environment: &self.environment,
            nothing: self.nothing.as_fd(),
            fed: false,
            line: LINE,
            files: &FILES,
        };
        Held::start(&hold, &self.reaper).ok()
    }
}
