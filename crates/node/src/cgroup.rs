//! A cgroup for every mounter, in every hierarchy that the host has: outside of
//! our own, so that the end of our container is not the end of the mounters.
//!
//! The host's view is that of PID 1, where this process may look at it; the plain
//! process of a test may not, and is on the host itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mountinfo;

/// How long the kernel may need to let go of a cgroup whose processes have ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// The cgroups of one state folder's mounters.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// One folder per hierarchy, the parents of the mounters' own.
    parents: Vec<PathBuf>,
}

impl Cgroups {
    /// Those whose parent is called `name`.
    pub fn of(name: &str) -> Self {
        let (root, mounts) = match mountinfo::of(1) {
            Ok(mounts) if Path::new("/proc/1/root/sys").is_dir() => ("/proc/1/root", mounts),
            _ => ("", mountinfo::of(std::process::id()).unwrap_or_default()),
        };
        let mut parents: Vec<_> = mounts
            .into_iter()
            .filter(|mount| matches!(&*mount.kind, "cgroup" | "cgroup2"))
            .filter(|mount| mount.point.starts_with("/sys/fs/cgroup"))
            .map(|mount| PathBuf::from(format!("{root}{}/{name}", mount.point)))
            .collect();
        parents.sort();
        parents.dedup();
        Self { parents }
    }

    /// Makes the mounter's cgroup in every hierarchy where that can be done.
    /// Returns the files to write a pid to, and what went wrong elsewhere.
    pub fn make(&self, mounter: &str) -> (Vec<PathBuf>, Vec<String>) {
        let (mut made, mut trouble) = (Vec::new(), Vec::new());
        for parent in &self.parents {
            let folder = parent.join(mounter);
            match fs::create_dir_all(&folder).and_then(|()| fill(parent, &folder)) {
                Ok(()) => made.push(folder.join("cgroup.procs")),
                Err(error) => trouble.push(format!("{}: {error}", folder.display())),
            }
        }
        (made, trouble)
    }

    /// Removes the mounter's cgroup, and the parents with the last.
    pub fn remove(&self, mounter: &str) {
        let deadline = Instant::now() + PATIENCE;
        for parent in &self.parents {
            let folder = parent.join(mounter);
            while folder.exists() && fs::remove_dir(&folder).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            // Refused as long as another mounter is in it.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// A fresh cpuset of version 1 is empty, and nothing may run in it.
fn fill(parent: &Path, folder: &Path) -> std::io::Result<()> {
    let Some(root) = parent.parent() else {
        return Ok(());
    };
    for set in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(all) = fs::read_to_string(root.join(set)) else {
            continue;
        };
        fs::write(parent.join(set), &all)?;
        fs::write(folder.join(set), &all)?;
    }
    Ok(())
}
