//! The only place that waits for processes.
//!
//! PID 1 inherits every orphan, so it takes the statuses of all children and sends them
//! to the watchers. Nothing else may call `wait`: a status can be taken only once.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid};
use tokio::sync::oneshot;

use super::Pid;
use crate::lock::Lock;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// It did not end: this signal stopped it, and nobody would continue it.
    Stopped(i32),
}

/// Reports the ends of processes to their watchers.
#[derive(Debug, Clone, Default)]
pub struct Reaper {
    watched: Arc<Lock<HashMap<i32, oneshot::Sender<Ended>>>>,
}

impl Reaper {
    /// Watches a child. Call it right after the start, without an await in between: an
    /// earlier end is not stored.
    pub fn watch(&self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.watched
            .lock()
            .insert(pid.as_raw_nonzero().get(), sender);
        receiver
    }

    /// The watched processes that have not ended.
    pub fn watched(&self) -> Vec<i32> {
        self.watched.lock().keys().copied().collect()
    }

    /// Takes all available statuses. Returns true if children are left.
    pub fn reap(&self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) => self.tell(pid, status),
                Ok(None) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn tell(&self, pid: Pid, status: WaitStatus) {
        let ended = if let Some(signal) = status.terminating_signal() {
            Ended::Killed(signal)
        } else if let Some(signal) = status.stopping_signal() {
            Ended::Stopped(signal)
        } else {
            Ended::Exited(status.exit_status().unwrap_or_default())
        };
        if let Some(watcher) = self.watched.lock().remove(&pid.as_raw_nonzero().get()) {
            let _ = watcher.send(ended);
        }
    }
}

/// True if a child has neither ended nor stopped. Its status, if any, stays available.
pub fn runs(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED
        | WaitIdOptions::STOPPED
        | WaitIdOptions::NOHANG
        | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}
