//! Becomes a mounter. The process gets its own session, cgroups and mount namespace. In the
//! namespace, a small tmpfs holds the mount point and the file with the S3 credentials.
//!
//! The namespace keeps only those mounts of the host that a program needs. Otherwise it
//! would hold a copy of each pod's volume and keep the device busy after the host has
//! unmounted it.

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

/// Directories with programs, libraries, certificates and name resolution. Mounts there stay.
const KEPT_MOUNTS: [&str; 12] = [
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

/// The task: become a mounter.
#[derive(Serialize, Deserialize)]
pub struct Start {
    /// The directory on which the tmpfs is mounted.
    pub stage: PathBuf,
    /// Content of the credentials file.
    pub key_file_content: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables beside `PATH` and `HOME`.
    pub environment: Vec<(String, String)>,
    /// `cgroup.procs` files to write the PID to.
    pub cgroups: Vec<PathBuf>,
    /// The mount's record, which the next `hutch-node` process reads.
    pub record: Record,
    /// The record's file.
    pub file: PathBuf,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start")
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Start {
    /// The mount point, as the mounter sees it.
    pub fn point(stage: &Path) -> PathBuf {
        stage.join("bucket")
    }

    /// The credentials file, as the mounter sees it.
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
        // It fails only if the process leads a session already.
        let _ = setsid();
        self.own_mounts().map_err(std::io::Error::from)?;
        fs::create_dir(Self::point(&self.stage))?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(Self::key_file(&self.stage))?;
        file.write_all(self.key_file_content.as_bytes())?;
        let (program, arguments) = self.command.split_first().ok_or(Error::Gone)?;
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

    /// Creates the mount namespace, removes the mounts that are not needed, and mounts the
    /// tmpfs.
    fn own_mounts(&self) -> rustix::io::Result<()> {
        #[allow(unsafe_code)]
        // SAFETY: this unshares a mount namespace and not the table of descriptors.
        unsafe {
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)?;
        }
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        let mounts = mountinfo::of(std::process::id()).unwrap_or_default();
        for entry in mounts.iter().rev() {
            if !needed(Path::new(&entry.point), &self.stage) {
                // It fails if the mount went away together with the mount around it.
                let _ = unmount(&*entry.point, UnmountFlags::DETACH);
            }
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let data = CString::new("size=64k,mode=0700").unwrap_or_default();
        mount("tmpfs", &self.stage, "tmpfs", flags, &*data)
    }
}

/// Enters the host's cgroup namespace. From another one, the kernel lets no process move to
/// a cgroup outside of that namespace.
fn host_cgroups() {
    let Ok(host) = fs::File::open("/proc/1/ns/cgroup") else {
        return;
    };
    let kind = Some(LinkNameSpaceType::ControlGroup);
    if let Err(error) = move_into_link_name_space(host.as_fd(), kind) {
        println!("the host's cgroup namespace: {error}");
    }
}

/// True if a mount stays: it is below a needed directory, or contains one or the stage.
fn needed(point: &Path, stage: &Path) -> bool {
    let needed = KEPT_MOUNTS.iter().map(Path::new);
    needed.clone().any(|directory| point.starts_with(directory))
        || needed
            .chain([stage])
            .any(|directory| directory.starts_with(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_a_program_needs_stay() {
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
