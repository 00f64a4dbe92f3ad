//! Removes a cluster: processes, containers, mounts, network, cgroups and files, in this
//! order. Every step works from any state, also after the processes were killed, so a failed
//! removal can be repeated.
//!
//! It only stops recorded processes, processes in the cluster's own cgroup, and shims whose
//! command line has the cluster's own socket.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::layout::Layout;
use crate::network::Slot;
use crate::options::OLDER;
use crate::process::Daemon;
use crate::{cgroup, mounts, shell};

/// The directory of the volumes that kube-controller-manager provisions. Not configurable.
const HOST_PATH_VOLUMES: &str = "/tmp/hostpath_pv/";

/// Removes the cluster of this state directory completely.
pub(crate) fn down(root: &Path) -> Result<()> {
    let slot = Slot::held_by(root);
    // The kubelet first. Otherwise it restarts the processes that are killed below.
    let (supervisor, others) = recorded(root)?;
    for daemon in &others {
        daemon.signal(Signal::KILL)?;
    }
    for daemon in &others {
        daemon.kill()?;
    }
    if let Some(slot) = slot {
        cgroup::kill(&slot.name())?;
        kill_shims(&Layout::new(root, slot).containerd_socket())?;
    }
    // The supervisor last, because it reaps the others.
    if let Some(daemon) = supervisor {
        daemon.stop(Duration::from_secs(5))?;
    }
    let volumes = host_path_volumes(&root.join("data/etcd"));
    mounts::detach(&root.join("data"))?;
    if let Some(slot) = slot {
        let layout = Layout::new(root, slot);
        remove_shim_sockets(&layout.containerd_state());
        remove_network_results(&pods(&layout));
        let run = layout.run;
        mounts::detach(&run)?;
        slot.disconnect()?;
        cgroup::remove(&slot.name())?;
        remove(&run)?;
    }
    remove_log_links(root);
    for volume in volumes {
        remove(&volume)?;
    }
    // This fails while another cluster uses the directory, which is correct.
    let _ = fs::remove_dir(HOST_PATH_VOLUMES);
    remove_state(root)?;
    slot.map_or(Ok(()), Slot::release)
}

/// The supervisor and all other recorded processes, the kubelet first.
fn recorded(root: &Path) -> Result<(Option<Daemon>, Vec<Daemon>)> {
    let directory = root.join("processes");
    let mut records = Vec::new();
    if directory.exists() {
        for entry in fs::read_dir(&directory)? {
            records.push(entry?.path());
        }
    }
    records.sort_by_key(|path| !path.ends_with("kubelet.json"));
    let (supervisor, others): (Vec<_>, Vec<_>) = records
        .iter()
        .partition(|path| path.ends_with("supervise.json"));
    let daemons = |paths: Vec<&PathBuf>| {
        paths
            .into_iter()
            .filter_map(|path| Daemon::recorded(path))
            .collect()
    };
    let supervisor: Vec<Daemon> = daemons(supervisor);
    Ok((supervisor.into_iter().next(), daemons(others)))
}

/// Ends the shims that serve this containerd.
fn kill_shims(socket: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let shims = shims(socket)?;
        if shims.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{} shims survived SIGKILL", shims.len());
        }
        for pid in shims {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The shims of this containerd. A zombie has no command line, so it is not found.
fn shims(socket: &Path) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if is_shim_of(&command, socket) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn is_shim_of(command: &[u8], socket: &Path) -> bool {
    let mut arguments = command.split(|byte| *byte == 0);
    let shim = arguments
        .next()
        .is_some_and(|name| String::from_utf8_lossy(name).contains("containerd-shim"));
    shim && arguments.any(|argument| argument == socket.as_os_str().as_encoded_bytes())
}

/// containerd 1.6 keeps the sockets of all shims of a machine in one directory. A killed
/// shim leaves its socket there.
fn remove_shim_sockets(state: &Path) {
    let tasks = state.join("io.containerd.runtime.v2.task/k8s.io");
    for bundle in fs::read_dir(tasks).into_iter().flatten().flatten() {
        if let Ok(address) = fs::read_to_string(bundle.path().join("address")) {
            let _ = fs::remove_file(address.trim().trim_start_matches("unix://"));
        }
    }
}

/// Removes the links to container logs, which the kubelet creates in a fixed directory.
fn remove_log_links(root: &Path) {
    for entry in fs::read_dir("/var/log/containers")
        .into_iter()
        .flatten()
        .flatten()
    {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(root)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The IDs of containerd's pods, from the names of their directories.
fn pods(layout: &Layout) -> Vec<String> {
    let directories = [layout.data("containerd"), layout.containerd_state()];
    let entries = directories
        .iter()
        .flat_map(|directory| fs::read_dir(directory.join("io.containerd.grpc.v1.cri/sandboxes")));
    entries
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Removes the CNI library's records of killed pods, which are in a fixed directory.
fn remove_network_results(pods: &[String]) {
    for entry in fs::read_dir("/var/lib/cni/results")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if pods.iter().any(|pod| name.contains(pod)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The directories of the volumes that this cluster provisioned. They are read from etcd's
/// files, as the API server no longer runs.
fn host_path_volumes(etcd: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut directories = vec![etcd.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else {
                find_volumes(&fs::read(entry.path()).unwrap_or_default(), &mut found);
            }
        }
    }
    found
}

fn find_volumes(bytes: &[u8], found: &mut BTreeSet<PathBuf>) {
    // As text, because std searches text fast and each file has 64 MB.
    let text = String::from_utf8_lossy(bytes);
    for (at, prefix) in text.match_indices(HOST_PATH_VOLUMES) {
        let name: String = text[at + prefix.len()..].chars().take(36).collect();
        if name.len() == 36 && name.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            found.insert(Path::new(HOST_PATH_VOLUMES).join(name));
        }
    }
}

/// Removes the state directory, except the subdirectory of the older cluster.
fn remove_state(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name() == OLDER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else {
            shell::ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    let _ = fs::remove_dir(root);
    Ok(())
}

/// Removes a directory. Refuses if anything is mounted in it, as the mounted files would be
/// deleted.
fn remove(directory: &Path) -> Result<()> {
    if let Some(mounted) = mounts::below(directory)?.first() {
        bail!("{} is still mounted", mounted.display());
    }
    shell::ignore_missing(fs::remove_dir_all(directory))
        .with_context(|| format!("removing {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_found_in_binary_data() {
        let name = "0b4f2c1e-1111-2222-3333-444455556666";
        let mut bytes = vec![0xff, 0, 1];
        bytes.extend(
            format!("{HOST_PATH_VOLUMES}{name}\u{12}/tmp/hostpath_pv/../../etc").as_bytes(),
        );
        let mut found = BTreeSet::new();
        find_volumes(&bytes, &mut found);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [Path::new(HOST_PATH_VOLUMES).join(name)]
        );
    }

    #[test]
    fn a_shim_of_another_containerd_is_left_alone() {
        let command =
            b"/x/containerd-shim-runc-v2\0-namespace\0k8s.io\0-address\0/run/a/containerd.sock\0";
        assert!(is_shim_of(command, Path::new("/run/a/containerd.sock")));
        assert!(!is_shim_of(command, Path::new("/run/b/containerd.sock")));
        assert!(!is_shim_of(
            b"/bin/cat\0/run/a/containerd.sock\0",
            Path::new("/run/a/containerd.sock")
        ));
    }
}
