//! The cluster's own cgroup, in every cgroup hierarchy of the machine. All containers are
//! below it, so every process in it belongs to the cluster, also if its shim was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

/// Creates it. The kubelet refuses a root cgroup that does not exist.
pub(crate) fn create(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let directory = hierarchy.join(name);
        if hierarchy.join("cgroup.subtree_control").exists() {
            for controller in ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"] {
                // The machine may lack a controller. The kubelet reports the ones it needs.
                let _ = fs::write(
                    hierarchy.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        // A new cpuset of version 1 is empty, and no process can run in it.
        for set in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read_to_string(hierarchy.join(set)) {
                fs::write(directory.join(set), all)?;
            }
        }
    }
    Ok(())
}

/// Kills every process below it.
pub(crate) fn kill(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut found = 0;
        for directory in directories(name)? {
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in processes
                .lines()
                .filter_map(|line| line.parse().ok())
                .filter_map(Pid::from_raw)
            {
                found += 1;
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        if found == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{found} processes in the cgroup {name} survived SIGKILL");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes it. Waits up to 5 s, because the kernel frees it after the last process.
pub(crate) fn remove(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for directory in directories(name)? {
        while directory.exists() {
            match fs::remove_dir(&directory) {
                Ok(()) => {}
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("removing {}", directory.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    Ok(())
}

/// The cgroup and all below it, in every hierarchy, the deepest first.
fn directories(name: &str) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for hierarchy in hierarchies()? {
        collect(&hierarchy.join(name), &mut all);
    }
    Ok(all)
}

fn collect(directory: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), all);
        }
    }
    all.push(directory.to_path_buf());
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    Ok(parse(&mounts))
}

/// The mount points of both cgroup versions below /sys/fs/cgroup. A container may also see
/// mounts of the machine around it in other directories.
fn parse(mounts: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let kind = after.split(' ').next().unwrap_or_default();
        let Some(point) = before.split(' ').nth(4) else {
            continue;
        };
        if matches!(kind, "cgroup" | "cgroup2") && point.starts_with("/sys/fs/cgroup") {
            all.push(PathBuf::from(point));
        }
    }
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      31 30 0:27 / /sys/fs/cgroup/cpu rw shared:1 - cgroup cgroup rw,cpu\n\
                      32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        let found = parse(mounts);
        assert_eq!(
            found,
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(PathBuf::from)
        );
    }
}
