//! The one place that waits for processes.
//!
//! PID 1 inherits every orphan, so statuses are taken for all children alike
//! and handed to those who watch one. Nothing else may call `wait`: a status
//! can be had only once.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid};
use tokio::sync::oneshot;

use super::Pid;
use crate::lock::Lock;

/// How a process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Not at all: it was stopped by this signal, and nobody is there who would
    /// continue it.
    Stopped(i32),
}

/// Hands out the ends of processes.
#[derive(Debug, Clone, Default)]
pub struct Reaper {
    watched: Arc<Lock<HashMap<i32, oneshot::Sender<Ended>>>>,
}

impl Reaper {
    /// The end of a child. Call it right after the start, without an await
    /// between: an end that comes earlier is not kept.
    pub fn watch(&self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.watched
            .lock()
            .insert(pid.as_raw_nonzero().get(), sender);
        receiver
    }

    /// The processes that are watched and have not ended.
    pub fn watched(&self) -> Vec<i32> {
        self.watched.lock().keys().copied().collect()
    }

    /// Takes every status there is. Returns whether children are left.
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

/// Whether a child has not ended or stopped; its status, if there is one, stays
/// to be taken.
pub fn runs(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED
        | WaitIdOptions::STOPPED
        | WaitIdOptions::NOHANG
        | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}
