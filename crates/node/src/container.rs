//! Finds a container on this node in `/proc` by its ID, without the container runtime.

use std::fs;

use super::{Owner, Process};

/// A running container, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its first process.
    pub init: Process,
    /// The user and group of that process.
    pub user: Owner,
}

/// Finds the running container with this ID, in the form of a pod's status
/// (`containerd://…`). It reads the files of every process.
pub fn find(id: &str) -> Option<Container> {
    let id = id.rsplit('/').next().filter(|id| id.len() >= 12)?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let first = pids.filter_map(|pid| first_of(pid, id));
    // A sandbox may create nested PID namespaces. The outermost one is the container's.
    let (_, pid) = first.min()?;
    let init = Process::of(pid)?;
    let user = user_of(init)?;
    init.runs().then_some(Container { init, user })
}

/// The process's real user and group.
pub(super) fn user_of(process: Process) -> Option<Owner> {
    user(&fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?)
}

/// The host's IDs of root in the process's user namespace. They are 0 without a user
/// namespace of its own.
pub(super) fn root_of(process: Process) -> Option<Owner> {
    let map = |file: &str| {
        let map = fs::read_to_string(format!("/proc/{}/{file}", process.pid)).ok()?;
        outside_of_zero(&map)
    };
    Some(Owner {
        uid: map("uid_map")?,
        gid: map("gid_map")?,
    })
}

/// The depth of the process's PID namespace, and its PID. `None` unless it is in the
/// container and is PID 1 of its namespace.
fn first_of(pid: u32, container: &str) -> Option<(usize, u32)> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    if !cgroups.contains(container) {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let depth = depth_of_first(&status)?;
    Some((depth, pid))
}

fn depth_of_first(status: &str) -> Option<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    let pids: Vec<_> = line.split_ascii_whitespace().collect();
    (pids.len() > 1 && pids.last() == Some(&"1")).then_some(pids.len())
}

/// Real user and group (`proc_pid_status(5)`).
fn user(status: &str) -> Option<Owner> {
    let id = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(Owner {
        uid: id("Uid:")?,
        gid: id("Gid:")?,
    })
}

/// The ID outside that the ID 0 inside maps to (`user_namespaces(7)`).
fn outside_of_zero(map: &str) -> Option<u32> {
    let lines = map.lines().map(|line| line.split_ascii_whitespace());
    let mut starts = lines.filter_map(|mut fields| Some((fields.next()?, fields.next()?)));
    let (_, outside) = starts.find(|(inside, _)| *inside == "0")?;
    outside.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_of_a_container_and_its_user_are_read() {
        let status = "Name:\tx\nNSpid:\t28079\t1\nUid:\t900005888\t1\t1\t1\nGid:\t7\t8\t8\t8\n";
        assert_eq!(depth_of_first(status), Some(2));
        assert_eq!(depth_of_first("NSpid:\t28079\t12\n"), None);
        assert_eq!(depth_of_first("NSpid:\t1\n"), None);
        let expected = Owner {
            uid: 900_005_888,
            gid: 7,
        };
        assert_eq!(user(status), Some(expected));
        assert_eq!(
            outside_of_zero("         0  900005888      65536\n"),
            Some(900_005_888)
        );
        assert_eq!(outside_of_zero("5 6 1\n0 0 4294967295\n"), Some(0));
    }
}
