//! The places that a clone of a mount is in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Mounts;
use super::record::Record;
use crate::errand::{self, Attach, Clear, Detach, Errand};
use crate::{Error, Owner, Process, container, mountinfo};

/// How long one step in another namespace may take.
const STEP: Duration = Duration::from_secs(5);

/// Where a mount is to be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// A path of the host: in the mount namespace of PID 1.
    Host(PathBuf),
    /// A path in a container.
    Container {
        /// Its first process.
        process: Process,
        /// The path, as the container sees it.
        path: PathBuf,
    },
}

/// What of buckets is at a path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// None.
    Nobody,
    /// The mount of that id.
    Ours(String),
    /// One that another driver has mounted.
    Other,
}

/// A place, and the folders that were made for it, the outermost first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Placed {
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

    /// Whether it went with its container.
    fn is_gone(&self) -> bool {
        self.target().is_some_and(|process| !process.runs())
    }
}

impl Mounts {
    /// Puts a clone of the mount into a place. Folders are made where they are
    /// missing; a mount of this id whose mounter has died is replaced. A container has
    /// it at one path at a time.
    ///
    /// # Errors
    /// [`Error::PathTaken`] where something is in the way, [`Error::Gone`] where
    /// the container has ended.
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
            self.leave(&mut record, &other).await?;
        }
        let made = errand::send(Errand::Attach(attach), STEP).await?;
        record.arrive(place, made);
        record.save(&record.file(&self.0.state))?;
        Ok(())
    }

    /// Takes it out of a place, with the folders that were made for it. A place
    /// where it is not is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] where a process uses it there.
    pub async fn detach(&self, id: &str, place: &Place) -> Result<(), Error> {
        let slot = self.slot(id);
        let mut record = slot.record.lock().await;
        self.leave(&mut record, place).await
    }

    /// Takes away what is mounted at a path of the host without a record, and the
    /// folder; that one cannot be removed is an error where `folder` says so. A path
    /// that is not there is none.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn clear(&self, path: &Path, folder: bool) -> Result<(), Error> {
        let path = path.to_owned();
        errand::send(Errand::Clear(Clear { path, folder }), STEP).await?;
        Ok(())
    }

    /// Takes out of a container whatever bucket is mounted at that path, ours or
    /// another driver's. Nothing there is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] where a process uses it.
    pub async fn withdraw(&self, process: Process, path: &Path) -> Result<(), Error> {
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
        errand::send(Errand::Detach(detach), STEP).await?;
        Ok(())
    }

    /// Whose bucket is mounted at a path in a container.
    pub fn occupant(&self, process: Process, path: &Path) -> Occupant {
        let mounts = mountinfo::of(process.pid).unwrap_or_default();
        let top = mountinfo::top(&mounts, path).filter(is_fuse);
        let Some(top) = top else {
            return Occupant::Nobody;
        };
        let same = |id: &String| Record::new(id, &self.0.state).label() == top.source;
        let ours = self.ids().into_iter().find(same);
        ours.map_or(Occupant::Other, Occupant::Ours)
    }

    /// Takes it out of every place.
    pub(super) async fn leave_all(&self, record: &mut Record) -> Result<(), Error> {
        for placed in record.places.clone() {
            self.leave(record, &placed.place).await?;
        }
        Ok(())
    }

    async fn leave(&self, record: &mut Record, place: &Place) -> Result<(), Error> {
        if !place.is_gone() {
            let made = record.places.iter().find(|placed| placed.place == *place);
            let detach = Detach {
                label: record.label(),
                target: place.target(),
                path: matches!(place, Place::Host(_)).then(|| place.path().clone()),
                made: made.map(|placed| placed.made.clone()).unwrap_or_default(),
                dead: !record.process.is_some_and(Process::runs),
            };
            match errand::send(Errand::Detach(detach), STEP).await {
                Ok(_) | Err(Error::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        record.places.retain(|placed| placed.place != *place);
        if record.process.is_some() {
            record.save(&record.file(&self.0.state))?;
        }
        Ok(())
    }
}

fn is_fuse(entry: &&mountinfo::Entry) -> bool {
    entry.kind.starts_with("fuse")
}

impl Record {
    /// Other paths in the same container: it has a mount in one place.
    fn elsewhere(&self, place: &Place) -> Vec<Place> {
        let places = self.places.iter().map(|placed| &placed.place);
        let same = |other: &&Place| other.target().is_some() && other.target() == place.target();
        places
            .filter(same)
            .filter(|other| *other != place)
            .cloned()
            .collect()
    }

    /// Notes that it is in a place. What was made for the place in an earlier
    /// container may lie in a volume, and be there still.
    fn arrive(&mut self, place: &Place, mut made: Vec<PathBuf>) {
        let (same, other): (Vec<_>, Vec<_>) = std::mem::take(&mut self.places)
            .into_iter()
            .partition(|placed| placed.place == *place || placed.place.is_gone());
        for before in same
            .into_iter()
            .filter(|placed| placed.place.path() == place.path())
        {
            made.extend(before.made);
        }
        made.sort();
        made.dedup();
        self.places = other;
        let place = place.clone();
        self.places.push(Placed { place, made });
    }
}
