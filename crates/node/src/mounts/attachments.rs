//! Attaches clones of a mount at targets and detaches them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Mounts;
use super::record::Record;
use crate::ns_helper::{self, Attach, Detach, MounterState, Removal, Task, UnmountPath};
use crate::{Error, Owner, Process, container, mountinfo};

/// Timeout of one namespace helper.
const HELPER_TIMEOUT: Duration = Duration::from_secs(5);

/// A mount point for clones of a mount. The state directory stores it as JSON, so names and fields must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountTarget {
    /// A path of the host, in the mount namespace of PID 1.
    Host(PathBuf),
    /// A path in a container.
    Container {
        /// Its first process.
        process: Process,
        /// The path in the container.
        path: PathBuf,
    },
}

/// The bucket that is mounted at a path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountedBucket {
    /// No bucket.
    None,
    /// The mount with this ID.
    Own(String),
    /// A bucket of another driver.
    Foreign,
}

/// A clone of the mount at a target. The state directory stores it as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attachment {
    #[serde(rename = "place")]
    pub target: MountTarget,
    /// The directories that were created for it, the outermost first.
    #[serde(rename = "made")]
    pub created: Vec<PathBuf>,
}

impl MountTarget {
    /// The first process of its container.
    fn process(&self) -> Option<Process> {
        match self {
            Self::Host(_) => None,
            Self::Container { process, .. } => Some(*process),
        }
    }

    fn path(&self) -> &PathBuf {
        match self {
            Self::Host(path) | Self::Container { path, .. } => path,
        }
    }

    /// The host's IDs of the target's root user, and of the owner of new directories.
    fn users(&self) -> Result<(Owner, Owner), Error> {
        let Some(process) = self.process() else {
            let host = Owner { uid: 0, gid: 0 };
            return Ok((host, host));
        };
        let root = container::root_of(process).ok_or(Error::Gone)?;
        let user = container::user_of(process).ok_or(Error::Gone)?;
        Ok((root, user))
    }

    /// True if its container has ended.
    fn is_gone(&self) -> bool {
        self.process().is_some_and(|process| !process.runs())
    }
}

impl Mounts {
    /// Attaches a clone of the mount at a target. Missing directories are created. A clone of
    /// this ID whose mounter has died is replaced. A container has the mount at one path
    /// only, so a clone at another path is detached.
    ///
    /// # Errors
    /// [`Error::PathTaken`] if something else occupies the path, [`Error::Gone`] if the
    /// container has ended, [`Error::Busy`] if a clone at another path is in use.
    pub async fn attach(&self, id: &str, target: &MountTarget) -> Result<(), Error> {
        let slot = self.slot(id);
        let mut record = slot.record.lock().await;
        let Some(mounter) = record.process.filter(|_| record.is_alive()) else {
            return Err(Error::Mounter("there is no mounter".to_owned()));
        };
        let (root, owner) = target.users()?;
        let attach = Attach {
            mounter,
            point: self.point(),
            label: record.label(),
            device: record.device.clone(),
            container: target.process(),
            path: target.path().clone(),
            root,
            owner,
        };
        for other in record.elsewhere(target) {
            self.detach_record(&mut record, &other).await?;
        }
        let created = ns_helper::run_task(Task::Attach(attach), HELPER_TIMEOUT).await?;
        record.add_target(target, created);
        record.save(&record.file(&self.0.state))?;
        Ok(())
    }

    /// Detaches the mount from a target and removes the directories that were created for it.
    /// It is no error if it is not attached there.
    ///
    /// # Errors
    /// [`Error::Busy`] if a process uses it there.
    pub async fn detach(&self, id: &str, target: &MountTarget) -> Result<(), Error> {
        let slot = self.slot(id);
        let mut record = slot.record.lock().await;
        self.detach_record(&mut record, target).await
    }

    /// Unmounts everything at a path of the host, with or without a record, and removes the
    /// directory. A path that does not exist is no error.
    ///
    /// # Errors
    /// The kernel's error. An error from removing the directory counts only with
    /// [`Removal::Required`].
    pub async fn unmount_host_path(&self, path: &Path, directory: Removal) -> Result<(), Error> {
        let path = path.to_owned();
        let task = Task::UnmountPath(UnmountPath { path, directory });
        ns_helper::run_task(task, HELPER_TIMEOUT).await?;
        Ok(())
    }

    /// Unmounts the bucket at a path in a container, even another driver's. It is no error
    /// if no bucket is mounted there.
    ///
    /// # Errors
    /// [`Error::Busy`] if a process uses it.
    pub async fn unmount_in_container(&self, process: Process, path: &Path) -> Result<(), Error> {
        let mounts = mountinfo::of(process.pid).map_err(|_| Error::Gone)?;
        let Some(top) = mountinfo::top(&mounts, path).filter(is_fuse) else {
            return Ok(());
        };
        let target = MountTarget::Container {
            process,
            path: path.to_owned(),
        };
        let ours = |id: &String| Record::new(id, &self.0.state).label() == top.source;
        if let Some(id) = self.ids().into_iter().find(ours) {
            return self.detach(&id, &target).await;
        }
        let detach = Detach {
            label: top.source.clone(),
            container: Some(process),
            path: Some(path.to_owned()),
            created: Vec::new(),
            mounter: MounterState::Running,
        };
        ns_helper::run_task(Task::Detach(detach), HELPER_TIMEOUT).await?;
        Ok(())
    }

    /// Finds out which bucket is mounted at a path in a container.
    pub fn mounted_at(&self, process: Process, path: &Path) -> MountedBucket {
        let mounts = mountinfo::of(process.pid).unwrap_or_default();
        let top = mountinfo::top(&mounts, path).filter(is_fuse);
        let Some(top) = top else {
            return MountedBucket::None;
        };
        let same = |id: &String| Record::new(id, &self.0.state).label() == top.source;
        let ours = self.ids().into_iter().find(same);
        ours.map_or(MountedBucket::Foreign, MountedBucket::Own)
    }

    /// Detaches the mount from every target.
    pub(super) async fn detach_all(&self, record: &mut Record) -> Result<(), Error> {
        for attachment in record.attachments.clone() {
            self.detach_record(record, &attachment.target).await?;
        }
        Ok(())
    }

    /// Detaches the mount of a locked record from a target.
    async fn detach_record(&self, record: &mut Record, target: &MountTarget) -> Result<(), Error> {
        if !target.is_gone() {
            let mut attachments = record.attachments.iter();
            let own = attachments.find(|attachment| attachment.target == *target);
            let detach = Detach {
                label: record.label(),
                container: target.process(),
                path: matches!(target, MountTarget::Host(_)).then(|| target.path().clone()),
                created: own
                    .map(|attachment| attachment.created.clone())
                    .unwrap_or_default(),
                mounter: if record.process.is_some_and(Process::runs) {
                    MounterState::Running
                } else {
                    MounterState::Ended
                },
            };
            match ns_helper::run_task(Task::Detach(detach), HELPER_TIMEOUT).await {
                Ok(_) | Err(Error::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        record
            .attachments
            .retain(|attachment| attachment.target != *target);
        if record.process.is_some() {
            record.save(&record.file(&self.0.state))?;
        }
        Ok(())
    }
}

fn is_fuse(entry: &&mountinfo::MountEntry) -> bool {
    entry.kind.starts_with("fuse")
}

impl Record {
    /// The other targets in the same container.
    fn elsewhere(&self, target: &MountTarget) -> Vec<MountTarget> {
        let targets = self.attachments.iter().map(|attachment| &attachment.target);
        let same =
            |other: &&MountTarget| other.process().is_some() && other.process() == target.process();
        targets
            .filter(same)
            .filter(|other| *other != target)
            .cloned()
            .collect()
    }

    /// Adds a target. Directories that were created for the same path in an earlier container
    /// may be in a volume and still exist, so they are kept in the list. Targets in
    /// containers that have ended are dropped.
    fn add_target(&mut self, target: &MountTarget, mut created: Vec<PathBuf>) {
        let (same, other): (Vec<_>, Vec<_>) = std::mem::take(&mut self.attachments)
            .into_iter()
            .partition(|attachment| attachment.target == *target || attachment.target.is_gone());
        for before in same
            .into_iter()
            .filter(|attachment| attachment.target.path() == target.path())
        {
            created.extend(before.created);
        }
        created.sort();
        created.dedup();
        self.attachments = other;
        let target = target.clone();
        self.attachments.push(Attachment { target, created });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_in_the_state_directory_keeps_its_form() {
        let json = r#"{"place":{"Container":{"process":{"pid":7,"started":9},"path":"/mnt/a"}},"made":["/mnt"]}"#;
        let attachment: Attachment = serde_json::from_str(json).unwrap();
        assert_eq!(attachment.target.path(), Path::new("/mnt/a"));
        assert_eq!(attachment.created, [PathBuf::from("/mnt")]);
        assert_eq!(serde_json::to_string(&attachment).unwrap(), json);
    }
}
