//! The agent's own log: lines on standard error, which become the pod's log.
//!
//! A line is dropped if it cannot be written at once: standard error may be a full pipe
//! or closed, and PID 1 must neither hang nor die of that. Never log environments,
//! scripts or outputs.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest line: a pipe that is writable takes it in one piece.
const MAX_LINE_BYTES: usize = 2048;

/// Writes one line, cut to [`MAX_LINE_BYTES`].
pub fn line(text: &str) {
    let mut line = format!("hutch-agent: {}", text.replace('\n', " "));
    line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
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

/// Writes the agent's fatal error to the termination log, if there is one: it becomes
/// part of the pod's status and of the sandbox's condition.
pub fn last_words(text: &str) {
    let mut place = std::fs::OpenOptions::new();
    if let Ok(mut place) = place.write(true).open("/dev/termination-log") {
        // A failure is ignored: the process ends anyway.
        let _ = std::io::Write::write_all(&mut place, text.as_bytes());
    }
}
