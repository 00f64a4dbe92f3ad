//! The process tree, read from `/proc`.
//!
//! A process can leave its group with one call, so a group alone does not show all
//! processes that a command has started; parent ids do, while the parents live. Without
//! a readable `/proc` only the group is known.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Signal, getpid, kill_process, kill_process_group};

use super::Pid;

/// Most reads of `/proc` while stopping a tree that keeps growing.
const ROUNDS: usize = 64;

/// One process, from `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Its parent's pid; 0 if the parent is outside the pid namespace.
    pub parent: i32,
    group: i32,
    session: i32,
    dead: bool,
}

/// All processes of the pid namespace.
pub fn processes() -> Vec<Process> {
    let Ok(directory) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    directory
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    // The name in parentheses may contain anything, including spaces and parentheses.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..])
        .ok()?
        .split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        group,
        session,
        dead,
    })
}

/// The `roots`, the members of their groups and sessions, and all descendants.
fn members(all: &[Process], roots: &[i32]) -> HashSet<i32> {
    let mut found: HashSet<i32> = roots.iter().copied().collect();
    found.extend(
        all.iter()
            .filter(|process| roots.contains(&process.group) || roots.contains(&process.session))
            .map(|process| process.pid),
    );
    loop {
        let before = found.len();
        for process in all {
            if found.contains(&process.parent) {
                found.insert(process.pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Kills `root`, its group and session, and all descendants.
///
/// They are stopped first, until no new one appears: the children of a killed process
/// move to PID 1 and could no longer be found.
pub fn kill(root: Pid) {
    let root_id = root.as_raw_nonzero().get();
    let own = getpid().as_raw_nonzero().get();
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS {
        let mut new = members(&processes(), &[root_id]);
        new.retain(|pid| !stopped.contains(pid) && *pid > 1 && *pid != own);
        if new.is_empty() {
            break;
        }
        for pid in &new {
            signal(*pid, Signal::STOP);
        }
        stopped.extend(new);
    }
    let _ = kill_process_group(root, Signal::KILL);
    for pid in stopped {
        signal(pid, Signal::KILL);
    }
}

/// Sends a signal to every descendant of the agent that is not PID 1.
pub fn signal_descendants(sent: Signal) {
    let own = getpid().as_raw_nonzero().get();
    let all = processes();
    let mut found = HashSet::from([own]);
    found.extend(members(
        &all,
        &all.iter()
            .filter(|process| process.parent == own)
            .map(|process| process.pid)
            .collect::<Vec<_>>(),
    ));
    found.remove(&own);
    for pid in found {
        signal(pid, sent);
    }
}

fn signal(pid: i32, sent: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, sent);
    }
}

/// Counts the live processes that the agent inherited from those it started, without
/// those that still belong to one of `roots`. Processes of an exec from outside (parent
/// 0) are not counted.
pub fn left_behind(roots: &[i32]) -> u32 {
    let own = getpid().as_raw_nonzero().get();
    let all = processes();
    let owned = members(&all, roots);
    let inherited: Vec<i32> = all
        .iter()
        .filter(|process| process.parent == own && !owned.contains(&process.pid))
        .map(|process| process.pid)
        .collect();
    let descendants = members(&all, &inherited);
    let count = all
        .iter()
        .filter(|process| !process.dead && process.pid != own)
        .filter(|process| descendants.contains(&process.pid) && !owned.contains(&process.pid))
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_read_over() {
        let process = parse(7, b"7 (a) b (c)) S 3 5 6 0 -1 4194304").unwrap();
        assert_eq!(
            (process.pid, process.parent, process.group, process.session),
            (7, 3, 5, 6)
        );
        assert!(!process.dead);
        assert!(parse(7, b"7 (a").is_none());
    }

    #[test]
    fn processes_that_left_the_group_are_found_through_their_parent() {
        let process = |pid, parent, group| Process {
            pid,
            parent,
            group,
            session: group,
            dead: false,
        };
        let all = [
            process(1, 0, 1),
            process(5, 1, 5),
            process(6, 5, 6),
            process(7, 6, 7),
            process(8, 1, 8),
        ];
        assert_eq!(members(&all, &[5]), HashSet::from([5, 6, 7]));
    }
}
