//! A pool of idle shells. Starting bash takes most of a short command's time, so a few
//! shells are started ahead while commands come, and ended when none has come for a
//! while. A pooled shell runs the script as `bash -c SCRIPT` would: same name, same
//! options, same variables. It is used for scripts without their own directory,
//! environment or input. If there is none, a fresh shell runs the script. Sessions use
//! the pool, too.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::fork_server::ForkServer;
use super::idle_shell::{IdleShell, IdleShellSpec};
use super::start::Started;
use crate::lock::Lock;
use crate::process::shell::Shell;
use crate::process::{Environment, Reaper};

/// Size of the pool: one shell in use, one starting, one spare.
const POOL_SIZE: usize = 3;
/// The pool is emptied when no script has come for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before a used shell is replaced, so that the command's answer is sent first.
const REFILL_DELAY: Duration = Duration::from_millis(1);
/// Longest script that a pooled shell gets.
const MAX_SCRIPT_BYTES: usize = 1 << 20;

/// Variables that would change a shell before its script begins.
pub const WITHHELD: [&str; 5] = [
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "POSIXLY_CORRECT",
];

/// The word for a session. Shells read it byte by byte.
pub const SESSION: &[u8] = b"s\n";

/// Descriptor number of the control socket, also in these texts and in `bash/bash.h`;
/// out of the range that scripts use.
pub const LINE: i32 = 100;
/// Descriptor numbers of the files: the script; what a session restores early; what it
/// restores right before the script; the value that the session's shell dumps.
pub const FILES: [i32; 4] = [101, 102, 103, 104];

/// `mapfile -d` needs bash 4.4: an older bash exits here and is never used.
const GUARD: &str = "((BASH_VERSINFO[0]*100+BASH_VERSINFO[1]>=404))&&";

/// Waits for a word on the control socket. It sets its own timeout because `TMOUT` may
/// be set.
pub const WAIT: &str = "read -r -t 1000000 -u 100&&";

/// If the word is empty, runs the script as `-c` does, including
/// `BASH_EXECUTION_STRING`. Otherwise a session owns the shell: it restores, waits for
/// a second word and runs the script as a file, so that nothing in the script can end
/// the code around it. The text is one line: the first line of the script.
pub const GO: &str = "if [[ $REPLY ]];then unset REPLY;. /proc/self/fd/102 2>/dev/null;exec 102<&-;\
read -r -t 1000000 -u 100 __hutch_g||{ trap - EXIT;exit; };\
. /proc/self/fd/103;\\. /proc/self/fd/101;\
else mapfile -d '' -u 101&&exec 100<&- 101<&- 102<&- 103<&- 104<&-&&\
BASH_EXECUTION_STRING=$MAPFILE&&unset MAPFILE REPLY&&eval -- \"$BASH_EXECUTION_STRING\";fi";

/// The idle shells.
#[derive(Debug)]
pub struct ShellPool {
    shells: Lock<VecDeque<IdleShell>>,
    /// Creates copies, if this image's bash supports it.
    server: Lock<Option<ForkServer>>,
    used: Notify,
    environment: Environment,
    nothing: OwnedFd,
    reaper: Reaper,
    /// True if no withheld variable is set; otherwise a pooled shell would differ from
    /// a fresh one.
    plain: bool,
}

impl ShellPool {
    /// Creates an empty pool. Its shells get this environment and `nothing` as input.
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

    /// Runs `script` in an idle shell; `None` if there is none.
    pub fn run_script(&self, script: &[u8]) -> Option<Started> {
        if !self.plain || script.len() > MAX_SCRIPT_BYTES || script.contains(&0) {
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

    /// True if there is a fork server.
    pub fn copies(&self) -> bool {
        self.server.lock().is_some()
    }

    /// Returns an idle shell, or a quick copy; `None` if there is neither.
    pub fn take(&self) -> Option<IdleShell> {
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

    /// Fills the pool while scripts come, and empties it when they stop. Never returns.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.used.notified().await;
            let mut able = true;
            loop {
                sleep(REFILL_DELAY).await;
                // A fork server that was lost is started again; one that cannot start
                // is not retried.
                if able && !self.copies() {
                    able = self.serve().await;
                }
                self.refill().await;
                if timeout(IDLE_TIMEOUT, self.used.notified()).await.is_err() {
                    break;
                }
            }
            self.shells.lock().clear();
            *self.server.lock() = None;
        }
    }

    /// Starts the missing shells. A failure is no error here: the fresh shell that the
    /// command then starts reports it.
    async fn refill(&self) {
        while self.shells.lock().len() < POOL_SIZE {
            let Some(shell) = self.copy().or_else(|| self.start()) else {
                return;
            };
            self.shells.lock().push_back(shell);
            tokio::task::yield_now().await;
        }
    }

    /// Starts a fork server and a first copy. Returns false if this sandbox cannot have
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

    /// Makes a copy. A server that fails to is dropped.
    fn copy(&self) -> Option<IdleShell> {
        let mut server = self.server.lock();
        let made = IdleShell::copy(server.as_ref()?, LINE, &FILES, &self.reaper);
        if made.is_err() {
            *server = None;
        }
        made.ok()
    }

    fn start(&self) -> Option<IdleShell> {
        let shell = Shell::bash(self.environment.path())?;
        let wait = [GUARD, WAIT, GO].concat();
        let hold = IdleShellSpec {
            file: &shell.file,
            arguments: &shell.invoke(wait.as_bytes()).ok()?.arguments,
            environment: &self.environment,
            nothing: self.nothing.as_fd(),
            fed: false,
            line: LINE,
            files: &FILES,
        };
        IdleShell::start(&hold, &self.reaper).ok()
    }
}
