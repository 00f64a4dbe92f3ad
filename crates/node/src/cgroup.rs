//! A cgroup for each mounter, in each cgroup hierarchy of the host. It is outside of this
//! container's cgroup, so that the mounters survive the end of the container.
//!
//! The hierarchies are those that PID 1 sees. A plain process in a test may not inspect
//! PID 1; it runs on the host itself and uses its own view.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mountinfo;

/// Timeout of the removal of a cgroup whose processes have ended.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The cgroups of the mounters of one state directory.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// One parent cgroup per hierarchy.
    parents: Vec<PathBuf>,
}

impl Cgroups {
    /// Uses parent cgroups with the name `name`. It creates nothing.
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

    /// Creates the mounter's cgroup in each hierarchy. Returns the files to write the PID
    /// to, and the errors of the hierarchies where it failed.
    pub fn create(&self, mounter: &str) -> (Vec<PathBuf>, Vec<String>) {
        let (mut created, mut errors) = (Vec::new(), Vec::new());
        for parent in &self.parents {
            let cgroup = parent.join(mounter);
            match fs::create_dir_all(&cgroup).and_then(|()| fill_cpuset(parent, &cgroup)) {
                Ok(()) => created.push(cgroup.join("cgroup.procs")),
                Err(error) => errors.push(format!("{}: {error}", cgroup.display())),
            }
        }
        (created, errors)
    }

    /// Removes the mounter's cgroup, and its parent if that is empty. It blocks until the
    /// kernel releases the cgroup, 2 s at most.
    pub fn remove(&self, mounter: &str) {
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        for parent in &self.parents {
            let cgroup = parent.join(mounter);
            while cgroup.exists() && fs::remove_dir(&cgroup).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            // It fails while another mounter's cgroup is in it.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Copies the root's CPUs and memory nodes. A new cpuset of cgroup v1 is empty, and no
/// process may run in it.
fn fill_cpuset(parent: &Path, cgroup: &Path) -> std::io::Result<()> {
    let Some(root) = parent.parent() else {
        return Ok(());
    };
    for set in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(all) = fs::read_to_string(root.join(set)) else {
            continue;
        };
        fs::write(parent.join(set), &all)?;
        fs::write(cgroup.join(set), &all)?;
    }
    Ok(())
}
