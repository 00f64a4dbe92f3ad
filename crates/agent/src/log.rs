//! The agent's own log: lines on standard error, which become the pod's log.
//!
//! A line is lost rather than waited for: standard error may be a full pipe or
//! closed, and PID 1 may neither hang nor die of that. Environments, scripts
//! and outputs never come here.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Less than a pipe takes in one piece once it takes anything.
const LONGEST: usize = 2048;

/// Writes one line, cut to a sensible length.
pub fn line(text: &str) {
    let mut line = format!("hutch-agent: {}", text.replace('\n', " "));
    line.truncate(line.floor_char_boundary(LONGEST));
    line.push('\n');
    let stderr = rustix::stdio::stderr();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    if matches!(poll(&mut polled, Some(&now)), Ok(1)) {
        let _ = rustix::io::write(stderr, line.as_bytes());
    }
}

/// Leaves why the agent ends where Kubernetes looks for it, if there is such a
/// place: it becomes part of the pod's status, and the sandbox's condition.
pub fn last_words(text: &str) {
    let mut place = std::fs::OpenOptions::new();
    if let Ok(mut place) = place.write(true).open("/dev/termination-log") {
        // Nothing is left to be done about a failure.
        let _ = std::io::Write::write_all(&mut place, text.as_bytes());
    }
}
