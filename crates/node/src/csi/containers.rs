//! Finds the containers that have a stale mount of a volume. The kubelet gives a container a
//! copy of the volume's mount, and a later mount on the host does not propagate to it. So a
//! new mount must be attached in the container as well. The containers are found through the
//! kernel: processes in the cgroup of a pod for which the volume is published, with a mount
//! of the volume's label.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::mounts::Snapshot;
use crate::{MountTarget, Process, mountinfo};

/// The targets in containers of these pods with an earlier mount of the same label. `pods`
/// are names of cgroups. It reads all of `/proc`.
pub(super) fn stale_targets(mount: &Snapshot, pods: &HashSet<String>) -> Vec<MountTarget> {
    let mut spaces = HashSet::new();
    let mut found = Vec::new();
    for pid in pids() {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if !pods.iter().any(|pod| cgroups.contains(pod.as_str())) {
            continue;
        }
        let Ok(space) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else {
            continue;
        };
        let Some(process) = spaces.insert(space).then(|| Process::of(pid)).flatten() else {
            continue;
        };
        let entries = mountinfo::of(pid).unwrap_or_default().into_iter();
        let stale = entries.filter(|e| e.source == mount.label && e.device != mount.device);
        let paths: HashSet<_> = stale.map(|entry| PathBuf::from(entry.point)).collect();
        found.extend(
            paths
                .into_iter()
                .map(|path| MountTarget::Container { process, path }),
        );
    }
    found
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The names of the pod's cgroup, for a volume that is published at `target`. The kubelet
/// makes them from the pod's UID; there is one name per cgroup driver.
pub(super) fn cgroup_names(target: &Path) -> Option<[String; 2]> {
    let mut parts = target.iter().skip_while(|part| *part != "pods").skip(1);
    let uid = parts.next()?.to_str().filter(|uid| uid.len() >= 32)?;
    Some([format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_contains_the_uid_of_its_pod() {
        let uid = "0f1e2d3c-0000-4000-8000-123456789abc";
        let path = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/pv/mount");
        let [plain, systemd] = cgroup_names(Path::new(&path)).unwrap();
        assert_eq!(plain, format!("pod{uid}"));
        assert_eq!(systemd, "pod0f1e2d3c_0000_4000_8000_123456789abc");
        let short = Path::new("/var/lib/kubelet/pods/x/volumes");
        assert_eq!(cgroup_names(short), None);
        assert_eq!(cgroup_names(Path::new("/var/lib/kubelet/plugins/x")), None);
    }
}
