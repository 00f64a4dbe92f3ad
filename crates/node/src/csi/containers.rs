//! The containers that a volume is in. The kubelet gives a container a copy of the
//! volume's mount, and what is mounted on the host afterwards does not reach it:
//! a mount that was made again has to be brought there. Which containers those are
//! is asked of the kernel: processes in the cgroup of a pod that the volume is
//! published for, with a mount of the volume's name.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::mounts::Known;
use crate::{Place, Process, mountinfo};

/// Places in containers of those pods where an earlier mount of the same name is.
/// Reads all of `/proc`.
pub(super) fn behind(known: &Known, pods: &HashSet<String>) -> Vec<Place> {
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
        let stale = entries.filter(|e| e.source == known.label && e.device != known.device);
        let paths: HashSet<_> = stale.map(|entry| PathBuf::from(entry.point)).collect();
        found.extend(
            paths
                .into_iter()
                .map(|path| Place::Container { process, path }),
        );
    }
    found
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What the cgroup of the pod is called that a volume is published for: its UID,
/// as the kubelet writes it for either cgroup driver.
pub(super) fn cgroups(target: &Path) -> Option<[String; 2]> {
    let mut parts = target.iter().skip_while(|part| *part != "pods").skip(1);
    let uid = parts.next()?.to_str().filter(|uid| uid.len() >= 32)?;
    Some([format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_tells_its_pod() {
        let uid = "0f1e2d3c-0000-4000-8000-123456789abc";
        let path = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/pv/mount");
        let [plain, systemd] = cgroups(Path::new(&path)).unwrap();
        assert_eq!(plain, format!("pod{uid}"));
        assert_eq!(systemd, "pod0f1e2d3c_0000_4000_8000_123456789abc");
        assert_eq!(cgroups(Path::new("/var/lib/kubelet/pods/x/volumes")), None);
        assert_eq!(cgroups(Path::new("/var/lib/kubelet/plugins/x")), None);
    }
}
