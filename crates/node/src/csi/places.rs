//! Stage and publish on the mount core. A mounter belongs to a staging path. Who
//! publishes what was staged otherwise (another volume of the same handle, other
//! keys, read-only) gets a mounter of its own at its target, so that nobody ever
//! sees a bucket by somebody else's keys. What is published already stays as it is
//! while it lives, whatever a later call says: a container uses it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tonic::{Code, Status};

use super::secrets;
use super::volume::{Unclear, Volume};
use crate::mounts::Known;
use crate::{Error, Mounts, Place, Source};
use hutch_core::buckets::reasons;

/// What a call brings along: the Secret's keys.
pub(super) type Secrets = HashMap<String, String>;

/// Ids of the mounts of this door: this, and the path that they are for.
const STAGED: &str = "csi-staged:";
const OWN: &str = "csi-own:";
const OWN_READ_ONLY: &str = "csi-own-ro:";

/// The places of volumes.
pub(super) struct Places {
    pub mounts: Mounts,
    /// Endpoints without TLS may be used.
    allow_http: bool,
    /// Which mount a target has: the calls that undo do not say.
    published: Mutex<HashMap<PathBuf, String>>,
}

impl Places {
    /// Takes up what an earlier process has published.
    pub async fn adopt(mounts: Mounts, allow_http: bool) -> Self {
        let mut published = HashMap::new();
        for id in ids(&mounts) {
            let places = mounts.look(&id).await.map(|known| known.places);
            for place in places.into_iter().flatten() {
                if let Place::Host(path) = place
                    && staging(&id) != Some(&path)
                {
                    published.insert(path, id.clone());
                }
            }
        }
        Self {
            mounts,
            allow_http,
            published: Mutex::new(published),
        }
    }

    /// Mounts the volume at its staging path.
    pub async fn stage(
        &self,
        staging: &Path,
        volume: Volume,
        secrets: &Secrets,
    ) -> Result<(), Status> {
        let source = self.source(volume, secrets)?;
        let id = staged(staging);
        let at = host(staging);
        if let Some(known) = self.living(&id).await {
            let published = known.places.iter().any(|place| *place != at);
            if published || known.is_of(&source) {
                return self.mounts.attach(&id, &at).await.map_err(status);
            }
        }
        self.revive(&id, &source).await?;
        if let Err(error) = self.mounts.attach(&id, &at).await {
            self.withdraw(&id).await;
            return Err(status(error));
        }
        Ok(())
    }

    /// Ends the mount of a staging path.
    pub async fn unstage(&self, staging: &Path) -> Result<(), Status> {
        self.mounts.close(&staged(staging)).await.map_err(status)?;
        self.mounts.clear(staging, false).await.map_err(status)
    }

    /// Puts the volume into a pod's folder.
    pub async fn publish(
        &self,
        at: Publish,
        mut volume: Volume,
        secrets: &Secrets,
    ) -> Result<(), Status> {
        let narrowed = at.read_only && !volume.read_only;
        volume.read_only |= narrowed;
        let source = self.source(volume, secrets)?;
        let before = self.at(&at.target);
        let id = match &before {
            Some(id) => id.clone(),
            None if narrowed => format!("{OWN_READ_ONLY}{}", at.target.display()),
            None => self.choose(&at, &source).await,
        };
        if self.living(&id).await.is_none() {
            self.revive(&id, &source).await?;
        }
        // Noted first: what is noted and not there is undone without complaint.
        self.published().insert(at.target.clone(), id.clone());
        let put = self.put(&id, &at).await;
        if put.is_err() && before.is_none() {
            // The kubelet takes it that nothing is there, and undoes nothing.
            self.unpublish(&at.target).await?;
        }
        put
    }

    async fn put(&self, id: &str, at: &Publish) -> Result<(), Status> {
        if staging(id) == Some(&at.staging) {
            let again = self.mounts.attach(id, &host(&at.staging)).await;
            again.map_err(status)?;
        }
        let attached = self.mounts.attach(id, &host(&at.target)).await;
        attached.map_err(status)
    }

    /// The mount that the target is to have: the staged one, unless that one lives
    /// and is of something else.
    async fn choose(&self, at: &Publish, source: &Source) -> String {
        let id = staged(&at.staging);
        match self.living(&id).await {
            Some(known) if !known.is_of(source) => format!("{OWN}{}", at.target.display()),
            _ => id,
        }
    }

    /// Takes it out of a pod's folder, which goes with it.
    pub async fn unpublish(&self, target: &Path) -> Result<(), Status> {
        match self.at(target) {
            Some(id) if staging(&id).is_some() => self.mounts.detach(&id, &host(target)).await,
            Some(id) => self.mounts.close(&id).await,
            None => Ok(()),
        }
        .map_err(status)?;
        self.mounts.clear(target, true).await.map_err(status)?;
        self.published().remove(target);
        Ok(())
    }

    /// Makes a mount that is not, or not any more, and puts it everywhere that it
    /// was.
    pub async fn revive(&self, id: &str, source: &Source) -> Result<(), Status> {
        let before = self.mounts.look(id).await.map(|known| known.places);
        let before = before.unwrap_or_default();
        if let Err(error) = self.mounts.ensure(id, source).await {
            if before.is_empty() {
                self.withdraw(id).await;
            }
            return Err(status(error));
        }
        for place in before {
            match self.mounts.attach(id, &place).await {
                Ok(()) | Err(Error::Gone) => {}
                // The others need it no less. `heal` comes back to it.
                Err(error) => {
                    tracing::warn!(id, ?place, %error, "a mount is not back in its place yet")
                }
            }
        }
        Ok(())
    }

    /// Ends a mount that came to nothing.
    async fn withdraw(&self, id: &str) {
        if let Err(error) = self.mounts.close(id).await {
            tracing::warn!(id, %error, "a mount that came to nothing stays");
        }
    }

    async fn living(&self, id: &str) -> Option<Known> {
        self.mounts.look(id).await.filter(|known| known.lives)
    }

    pub fn source(&self, volume: Volume, secrets: &Secrets) -> Result<Source, Status> {
        Ok(secrets::source(volume, secrets, self.allow_http)?)
    }

    /// Id of the mount that is published there.
    pub fn at(&self, target: &Path) -> Option<String> {
        self.published().get(target).cloned()
    }

    fn published(&self) -> MutexGuard<'_, HashMap<PathBuf, String>> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a volume is published.
pub(super) struct Publish {
    pub staging: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// Ids of all mounts of this door.
pub(super) fn ids(mounts: &Mounts) -> Vec<String> {
    let mut all = mounts.ids();
    all.retain(|id| {
        [STAGED, OWN, OWN_READ_ONLY]
            .iter()
            .any(|kind| id.starts_with(kind))
    });
    all
}

fn staged(staging: &Path) -> String {
    format!("{STAGED}{}", staging.display())
}

/// The staging path that the mount belongs to, if it does.
pub(super) fn staging(id: &str) -> Option<&Path> {
    id.strip_prefix(STAGED).map(Path::new)
}

/// Whether the mount refuses writes whatever the volume says.
pub(super) fn is_read_only(id: &str) -> bool {
    id.starts_with(OWN_READ_ONLY)
}

fn host(path: &Path) -> Place {
    Place::Host(path.to_owned())
}

impl From<Unclear> for Status {
    fn from(unclear: Unclear) -> Self {
        Self::invalid_argument(unclear.to_string())
    }
}

/// What the kubelet makes of it, and a text for the pod's events that begins with
/// the reason as a Sandbox's status has it. After `Unavailable` the kubelet takes
/// it that something may have been mounted, after the others that nothing was.
pub(super) fn status(error: Error) -> Status {
    let code = match error.reason() {
        reasons::ACCESS_DENIED => Code::Unauthenticated,
        reasons::NO_SUCH_BUCKET => Code::NotFound,
        reasons::UNREACHABLE => Code::Unavailable,
        reasons::BAD_OPTION => Code::InvalidArgument,
        reasons::PATH_TAKEN | reasons::BUSY => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    Status::new(code, format!("{}: {error}", error.reason()))
}
