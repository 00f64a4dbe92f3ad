//! A process, identified by its PID and start time. A recycled PID has another start time,
//! so it is never mistaken for the old process. A zombie counts as ended.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process that may have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its PID in the host's PID namespace.
    pub pid: u32,
    /// Its start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub started: u64,
}

impl Process {
    /// The process that has this PID now.
    pub fn of(pid: u32) -> Option<Self> {
        let (state, started) = look_up(pid)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// True if it still runs.
    pub fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// True if it is stopped (SIGSTOP).
    pub fn is_stopped(self) -> bool {
        look_up(self.pid) == Some(('T', self.started))
    }

    /// Sends a signal if it still runs.
    pub fn signal(self, signal: Signal) {
        if let Some(fd) = self.fd() {
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(&fd, signal);
        }
    }

    /// Waits until it has ended or is a zombie.
    pub async fn ended(self) {
        let Some(fd) = self.fd() else { return };
        // A pidfd becomes readable when its process ends.
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is owned and is closed only after it is deregistered.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        match registered {
            Ok(fd) => drop(fd.readable().await),
            Err(error) => tracing::warn!(%error, "a process cannot be watched"),
        }
    }

    /// A pidfd. The check after opening ensures that it is not a recycled PID's.
    fn fd(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.runs().then_some(fd)
    }
}

fn look_up(pid: u32) -> Option<(char, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The process's name may contain parentheses and spaces, so the search for the closing one
/// starts from the right (`proc_pid_stat(5)`).
fn parse(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_confuse_the_parser() {
        let stat = "7 (a) S 1 (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(parse(stat), Some(('S', 4242)));
    }

    #[tokio::test]
    async fn a_process_is_found_until_it_ends_and_never_confused_with_another() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.runs());
        let other = Process {
            started: process.started + 1,
            ..process
        };
        assert!(!other.runs());
        other.signal(Signal::KILL);
        assert!(child.try_wait().unwrap().is_none());
        process.signal(Signal::KILL);
        process.ended().await;
        assert!(!process.runs());
        child.wait().unwrap();
        process.ended().await;
    }
}
