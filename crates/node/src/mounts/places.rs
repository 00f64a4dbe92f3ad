//! Attaches clones of a mount at places and detaches them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Mounts;
use super::record::Record;
use crate::ns_helper::{self, Attach, Clear, Detach, Removal, Task};
use crate::{Error, Owner, Process, container, mountinfo};

/// How long one namespace helper may run.
const HELPER_TIMEOUT: Duration = Duration::from_secs(5);

/// A mount point. The state directory stores it as JSON, so names and fields must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
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

/// A place with a clone of the mount, and the directories that were created for it, the
/// outermost first. The state directory stores it as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attachment {
    pub place: Place,
    pub made: Vec<PathBuf>,
}

impl Place {
    fn target(&self) -> Option<Process> {
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

    /// True if its container has ended.
    fn is_gone(&self) -> bool {
        self.target().is_some_and(|process| !process.runs())
    }
}

impl Mounts {
    /// Attaches a clone of the mount at a place. Missing directories are created. A clone of
    /// this ID whose mounter has died is replaced. A container has the mount at one path
    /// only, so a clone at another path is detached.
    ///
    /// # Errors
    /// [`Error::PathTaken`] if something else occupies the path, [`Error::Gone`] if the
    /// container has ended, [`Error::Busy`] if a clone at another path is in use.
    pub async fn attach(&self, id: &str, place: &Place) -> Result<(), Error> {
        let slot = self.slot(id);
        let mut record = slot.record.lock().await;
        let Some(mounter) = record.process.filter(|_| record.lives()) else {
            return Err(Error::Mounter("there is no mounter".to_owned()));
        };
        let root = match place.target() {
            Some(process) => container::root_of(process).ok_or(Error::Gone)?,
            None => Owner { uid: 0, gid: 0 },
        };
        let owner = match place.target() {
            Some(process) => container::user_of(process).ok_or(Error::Gone)?,
            None => root,
        };
        let attach = Attach {
            mounter,
            point: self.point(),
            label: record.label(),
            device: record.device.clone(),
            target: place.target(),
            path: place.path().clone(),
            root,
            owner,
        };
        for other in record.elsewhere(place) {
            self.detach_record(&mut record, &other).await?;
        }
        let made = ns_helper::run_task(Task::Attach(attach), HELPER_TIMEOUT).await?;
        record.add_place(place, made);
        record.save(&record.file(&self.0.state))?;
        Ok(())
    }

    /// Detaches the mount from a place and removes the directories that were created for it.
    /// It is no error if it is not attached there.
    ///
    /// # Errors
    /// [`Error::Busy`] if a process uses it there.
    pub async fn detach(&self, id: &str, place: &Place) -> Result<(), Error> {
        let slot = self.slot(id);
        let mut record = slot.record.lock().await;
        self.detach_record(&mut record, place).await
    }

    /// Unmounts everything at a path of the host, with or without a record, and removes the
    /// directory. A path that does not exist is no error.
    ///
    /// # Errors
    /// The kernel's error. An error from removing the directory counts only with
    /// [`Removal::Required`].
    pub async fn clear(&self, path: &Path, directory: Removal) -> Result<(), Error> {
        let path = path.to_owned();
        let clear = Clear { path, directory };
        ns_helper::run_task(Task::Clear(clear), HELPER_TIMEOUT).await?;
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
        let place = Place::Container {
            process,
            path: path.to_owned(),
        };
        let ours = |id: &String| Record::new(id, &self.0.state).label() == top.source;
        if let Some(id) = self.ids().into_iter().find(ours) {
            return self.detach(&id, &place).await;
        }
        let detach = Detach {
            label: top.source.clone(),
            target: Some(process),
            path: Some(path.to_owned()),
            made: Vec::new(),
            dead: false,
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

    /// Detaches the mount from every place.
    pub(super) async fn detach_all(&self, record: &mut Record) -> Result<(), Error> {
        for attachment in record.places.clone() {
            self.detach_record(record, &attachment.place).await?;
        }
        Ok(())
    }

    /// Detaches the mount of a locked record from a place.
    async fn detach_record(&self, record: &mut Record, place: &Place) -> Result<(), Error> {
        if !place.is_gone() {
            let mut places = record.places.iter();
            let made = places.find(|attachment| attachment.place == *place);
            let detach = Detach {
                label: record.label(),
                target: place.target(),
                path: matches!(place, Place::Host(_)).then(|| place.path().clone()),
                made: made
                    .map(|attachment| attachment.made.clone())
                    .unwrap_or_default(),
                dead: !record.process.is_some_and(Process::runs),
            };
            match ns_helper::run_task(Task::Detach(detach), HELPER_TIMEOUT).await {
                Ok(_) | Err(Error::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        record
            .places
            .retain(|attachment| attachment.place != *place);
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
    /// The other places in the same container.
    fn elsewhere(&self, place: &Place) -> Vec<Place> {
        let places = self.places.iter().map(|attachment| &attachment.place);
        let same = |other: &&Place| other.target().is_some() && other.target() == place.target();
        places
            .filter(same)
            .filter(|other| *other != place)
            .cloned()
            .collect()
    }

    /// Adds a place. Directories that were created for the same path in an earlier container
    /// may be in a volume and still exist, so they are kept in the list. Places in
    /// containers that have ended are dropped.
    fn add_place(&mut self, place: &Place, mut made: Vec<PathBuf>) {
        let (same, other): (Vec<_>, Vec<_>) = std::mem::take(&mut self.places)
            .into_iter()
            .partition(|attachment| attachment.place == *place || attachment.place.is_gone());
        for before in same
            .into_iter()
            .filter(|attachment| attachment.place.path() == place.path())
        {
            made.extend(before.made);
        }
        made.sort();
        made.dedup();
        self.places = other;
        let place = place.clone();
        self.places.push(Attachment { place, made });
    }
}
