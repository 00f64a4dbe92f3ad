//! Becomes a mounter: a session, cgroups and a mount namespace of its own, in
//! which a small tmpfs has the mount point and the file of the keys.
//!
//! The namespace keeps of the host's mounts only what a program needs to run. A
//! copy of a pod's volume that was unmounted on the host would keep its device
//! busy for as long as the mounter lives.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::setsid;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::mounts::Record;
use crate::{Error, Process, mountinfo};

/// Where programs, libraries, certificates and name resolution lie.
const NEEDED: [&str; 12] = [
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run/systemd/resolve",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var/tmp",
];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A mounter to become.
#[derive(Serialize, Deserialize)]
pub struct Start {
    /// Folder over which the tmpfs is mounted.
    pub stage: PathBuf,
    /// What is in the file of the keys.
    pub keys: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Its environment, besides what every program has.
    pub environment: Vec<(String, String)>,
    /// Files of cgroups to write the pid to.
    pub cgroups: Vec<PathBuf>,
    /// What the next `hutch node` has to know of it.
    pub record: Record,
    /// The record's file.
    pub file: PathBuf,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start")
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}

impl Start {
    /// The mount point, as the mounter sees it.
    pub fn point(stage: &Path) -> PathBuf {
        stage.join("bucket")
    }

    /// The file of the keys, as the mounter sees it.
    pub fn key_file(stage: &Path) -> PathBuf {
        stage.join("keys")
    }

    /// Returns only if it fails.
    pub fn run(self) -> Error {
        match self.prepare() {
            Ok(mut program) => program.exec().into(),
            Err(error) => error,
        }
    }

    fn prepare(&self) -> Result<Command, Error> {
        let process = Process::of(std::process::id());
        let record = self.record.clone();
        Record { process, ..record }.save(&self.file)?;
        host_cgroups();
        for file in &self.cgroups {
            if let Err(error) = fs::write(file, std::process::id().to_string()) {
                println!("{}: {error}", file.display());
            }
        }
        // A leader of a session already has what this is for.
        let _ = setsid();
        self.own_mounts().map_err(std::io::Error::from)?;
        fs::create_dir(Self::point(&self.stage))?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(Self::key_file(&self.stage))?;
        file.write_all(self.keys.as_bytes())?;
        let (program, arguments) = self.words.split_first().ok_or(Error::Gone)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/nonexistent")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .current_dir("/");
        Ok(command)
    }

    /// A mount namespace without what is not needed, and with the tmpfs.
    fn own_mounts(&self) -> rustix::io::Result<()> {
        #[allow(unsafe_code)]
        // SAFETY: a mount namespace is unshared, not the table of descriptors.
        unsafe {
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)?;
        }
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        let mounts = mountinfo::of(std::process::id()).unwrap_or_default();
        for entry in mounts.iter().rev() {
            if !needed(Path::new(&entry.point), &self.stage) {
                // Gone already with what it was in.
                let _ = unmount(&*entry.point, UnmountFlags::DETACH);
            }
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let data = CString::new("size=64k,mode=0700").unwrap_or_default();
        mount("tmpfs", &self.stage, "tmpfs", flags, &*data)
    }
}

/// Sees the host's cgroups: from a cgroup namespace that is not the host's the kernel
/// lets no process go to a cgroup outside of it.
fn host_cgroups() {
    let Ok(host) = fs::File::open("/proc/1/ns/cgroup") else {
        return;
    };
    let kind = Some(LinkNameSpaceType::ControlGroup);
    if let Err(error) = move_into_link_name_space(host.as_fd(), kind) {
        println!("the host's cgroup namespace: {error}");
    }
}

/// Whether a mount stays: one of what is needed, or around it.
fn needed(point: &Path, stage: &Path) -> bool {
    let needed = NEEDED.iter().map(Path::new);
    needed.clone().any(|folder| point.starts_with(folder))
        || needed
            .chain([stage])
            .any(|folder| folder.starts_with(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_program_needs_stays_mounted() {
        let stays = |point: &str| needed(Path::new(point), Path::new("/run/hutch/node/stage"));
        for point in [
            "/",
            "/dev/pts",
            "/run",
            "/run/hutch",
            "/usr",
            "/var",
            "/etc/resolv.conf",
        ] {
            assert!(stays(point), "{point}");
        }
        for point in [
            "/var/lib/kubelet/pods/x",
            "/run/containerd/y",
            "/home",
            "/run/hutch/other",
        ] {
            assert!(!stays(point), "{point}");
        }
    }
}
