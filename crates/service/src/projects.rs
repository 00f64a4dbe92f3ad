//! Finds the sandbox of a conversation or a project. A conversation of a project
//! works in the project's sandbox; every other conversation has a sandbox of its own.
//!
//! While the database is away, the service uses the last answer that it got, and the
//! project IDs in the specs of the sandboxes. A request fails for lack of the database
//! only if it asks for a project that no sandbox has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::Service;
use super::files::{Base, ClientPath};
use super::target::{Owner, Target, project_of};
use hutch_api::{Sandbox, Workspace};
use hutch_core::interfaces::{DatabaseError, Integration, Project};

/// How long the answer of a lookup is used without asking again. The column
/// `container_name` may be behind for as long.
const LOOKUP_TTL: Duration = Duration::from_secs(5);
/// How long a conversation that was never looked up waits for a database that was lost
/// a moment ago. It should not get a sandbox of its own too early: its files would then
/// be in that sandbox.
const DATABASE_GRACE: Duration = Duration::from_secs(10);
/// The time between two tries of such a lookup.
const LOOKUP_RETRY: Duration = Duration::from_millis(250);
/// How long to wait until the cache shows a sandbox or pod that the API server has.
const CACHE_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of conversations whose last lookup is kept for a time without database.
const MAX_LOOKUPS: usize = 10_000;

/// The working directory that the container's image or spec sets. The agent resolves
/// it.
const CONTAINER_WORKDIR: &str = ".";

/// The sandbox and the directory in which a conversation or a project works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sandbox, or the pod that is used as one.
    pub target: Target,
    /// Its working directory. `.` is the one that the container's image or spec sets.
    pub workdir: String,
    /// True if a command without a directory starts in `workdir`.
    is_default: bool,
}

impl Place {
    /// The directory to name for a command that is to run in the working directory.
    /// `None` if a command starts there anyway.
    pub fn cwd(&self) -> Option<String> {
        (!self.is_default).then(|| self.workdir.clone())
    }

    /// A path of a client. A relative one starts at the working directory.
    pub fn path<'a>(&'a self, path: &'a str) -> ClientPath<'a> {
        ClientPath {
            path,
            base: Base::Folder(&self.workdir),
        }
    }
}

/// The last answers of the database, by conversation.
#[derive(Default)]
pub struct Resolutions(Mutex<HashMap<String, Lookup>>);

struct Lookup {
    at: Instant,
    project: Option<Project>,
    /// The sandbox that was logged last for this conversation.
    logged: Option<String>,
}

impl Resolutions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lookup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last answer for a conversation, and true if it is younger than
    /// [`LOOKUP_TTL`].
    fn get(&self, conversation: &str) -> Option<(Option<Project>, bool)> {
        let all = self.lock();
        let lookup = all.get(conversation)?;
        let fresh = lookup.at.elapsed() < LOOKUP_TTL;
        Some((lookup.project.clone(), fresh))
    }

    fn set(&self, conversation: &str, project: Option<Project>) {
        let mut all = self.lock();
        if all.len() >= MAX_LOOKUPS && !all.contains_key(conversation) {
            let oldest = all.iter().min_by_key(|(_, lookup)| lookup.at);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                all.remove(&oldest);
            }
        }
        let lookup = Lookup {
            at: Instant::now(),
            project,
            logged: all.remove(conversation).and_then(|old| old.logged),
        };
        all.insert(conversation.to_owned(), lookup);
    }

    /// Notes that the conversation's sandbox is logged. Returns true if it was not
    /// logged before.
    fn note_logged(&self, conversation: &str, sandbox: &str) -> bool {
        let mut all = self.lock();
        let Some(lookup) = all.get_mut(conversation) else {
            return true;
        };
        let before = lookup.logged.replace(sandbox.to_owned());
        before.as_deref() != Some(sandbox)
    }
}

impl Service {
    /// The place in which a conversation works. Its sandbox need not exist yet.
    pub async fn conversation(&self, id: &str) -> Place {
        match self.project_of_conversation(id).await {
            Some(project) => {
                let place = self.place_of(&project).await;
                if self.resolutions.note_logged(id, &place.target.name) {
                    self.log_attached(id, &project, &place);
                }
                place
            }
            None => self.place(Target::conversation(id), None),
        }
    }

    /// The place in which a project works. `None` if there is no such project.
    ///
    /// # Errors
    /// The database's error, if no sandbox names the project either.
    pub async fn project(&self, id: &str) -> Result<Option<Place>, DatabaseError> {
        match self.projects.get(id).await {
            Ok(Some(project)) => Ok(Some(self.place_of(&project).await)),
            Ok(None) => Ok(None),
            Err(error) => match self.oldest_sandbox_of(id) {
                Some(sandbox) => Ok(Some(self.existing(&sandbox, None, None))),
                None => Err(error),
            },
        }
    }

    async fn project_of_conversation(&self, id: &str) -> Option<Project> {
        let last = self.resolutions.get(id);
        if let Some((project, true)) = last {
            return project;
        }
        let give_up = Instant::now() + DATABASE_GRACE;
        loop {
            let error = match self.projects.of_session(id).await {
                Ok(project) => {
                    self.resolutions.set(id, project.clone());
                    return project;
                }
                Err(error) => error,
            };
            // Only at debug level: the database module reports its errors itself.
            tracing::debug!(conversation = id, %error, "the project was not looked up");
            match last {
                Some((project, _)) => return project,
                None if error.away() && self.just_lost() && Instant::now() < give_up => {
                    tokio::time::sleep(LOOKUP_RETRY).await;
                }
                None => return None,
            }
        }
    }

    /// True if the database may soon answer: it answers now, or it has been away for
    /// less than [`DATABASE_GRACE`].
    fn just_lost(&self) -> bool {
        let state = self.projects.state();
        let since = Timestamp::now().duration_since(state.since);
        match state.integration {
            Integration::Connected => true,
            Integration::Away => since.unsigned_abs() < DATABASE_GRACE,
            Integration::NotConfigured => false,
        }
    }

    /// The place in which the conversations of a project work. The row may name a
    /// sandbox or pod that the cache does not show yet. Then this asks the API server,
    /// and waits for the cache, before it chooses a new sandbox: a second sandbox would
    /// have none of the project's files.
    pub(super) async fn place_of(&self, project: &Project) -> Place {
        let place = self.cached_place(project);
        let Some(named) = project.container_name.as_deref() else {
            return place;
        };
        if self.is_cached(&place.target) || !self.exists_in_cluster(named).await {
            return place;
        }
        let (mut sandboxes, mut attached_pods) =
            (self.sandboxes.changes(), self.attached_pods.changes());
        let shown = async {
            while self.live_sandbox(named).is_none() && self.attached_pods.get(named).is_none() {
                tokio::select! {
                    _ = sandboxes.changed() => {}
                    _ = attached_pods.changed() => {}
                }
            }
        };
        // If the cache does not show it in time, it counts as gone.
        let _ = timeout(CACHE_TIMEOUT, shown).await;
        self.cached_place(project)
    }

    fn is_cached(&self, target: &Target) -> bool {
        target.owner == Owner::AttachedPod || self.live_sandbox(&target.name).is_some()
    }

    /// True if the API server has a sandbox or an attachable pod of that name. An error
    /// counts as no: an API server that cannot be read creates no sandbox either.
    async fn exists_in_cluster(&self, name: &str) -> bool {
        match self.sandboxes.fetch(name).await {
            Ok(Some(sandbox)) => sandbox.metadata.deletion_timestamp.is_none(),
            Ok(None) => self.attached_pods.exists(name).await.unwrap_or(false),
            Err(_) => false,
        }
    }

    fn cached_place(&self, project: &Project) -> Place {
        let wanted = project.workdir_path.as_deref();
        let named = project.container_name.as_deref();
        if let Some(pod) = named.filter(|name| self.attached_pods.get(name).is_some()) {
            return Place {
                target: Target::attached_pod(pod, project),
                workdir: wanted.unwrap_or(CONTAINER_WORKDIR).to_owned(),
                is_default: wanted.is_none(),
            };
        }
        let named = named.and_then(|name| self.live_sandbox(name));
        // In a sandbox of another owner, the project may use any directory: Hutch
        // does not mount the workspace there.
        if let Some(named) = &named
            && project_of(named) != Some(&project.id)
        {
            return self.existing(named, wanted, Some(project));
        }
        let workdir = wanted.filter(|path| Workspace::can_be_at(path));
        let default = &self.settings.project_template.workspace.mount_path;
        let own = Target::project(project, workdir.unwrap_or(default));
        if let Some(sandbox) = named.or_else(|| self.oldest_sandbox_of(&project.id)) {
            // A target with the project as owner can be created again if it goes now.
            return if sandbox.metadata.name.as_ref() == Some(&own.name) {
                self.place(own, workdir)
            } else {
                self.existing(&sandbox, workdir, Some(project))
            };
        }
        if let (Some(wanted), None) = (wanted, workdir) {
            tracing::warn!(
                project = project.id,
                workdir = wanted,
                "no workspace can be mounted there: the default is used"
            );
        }
        self.place(own, workdir)
    }

    /// The sandbox of that name in the cache, unless it is being deleted.
    pub(super) fn live_sandbox(&self, name: &str) -> Option<Arc<Sandbox>> {
        let sandbox = self.sandboxes.get(name)?;
        sandbox
            .metadata
            .deletion_timestamp
            .is_none()
            .then_some(sandbox)
    }

    /// The sandbox whose spec names the project, no matter who created it. If there are
    /// several, the oldest.
    fn oldest_sandbox_of(&self, project: &str) -> Option<Arc<Sandbox>> {
        let mut all = self.sandboxes.all();
        all.retain(|sandbox| {
            sandbox.metadata.deletion_timestamp.is_none() && project_of(sandbox) == Some(project)
        });
        let age = |sandbox: &Arc<Sandbox>| {
            let meta = &sandbox.metadata;
            (meta.creation_timestamp.clone(), meta.uid.clone())
        };
        all.into_iter().min_by_key(age)
    }

    fn existing(
        &self,
        sandbox: &Sandbox,
        workdir: Option<&str>,
        project: Option<&Project>,
    ) -> Place {
        let name = sandbox.metadata.name.as_deref().unwrap_or_default();
        self.place(Target::named(name, project), workdir)
    }

    fn place(&self, target: Target, workdir: Option<&str>) -> Place {
        let made = self.sandboxes.get(&target.name);
        let home = match (&made, target.workdir()) {
            (Some(made), _) => &made.spec.workspace.mount_path,
            (None, Some(wanted)) => wanted,
            (None, None) => &self.settings.project_template.workspace.mount_path,
        };
        Place {
            workdir: workdir.unwrap_or(home).to_owned(),
            is_default: workdir.is_none_or(|workdir| workdir == home),
            target: target.clone(),
        }
    }

    /// Logs which existing container a conversation uses. [`Self::log_created`] reports
    /// a new one, once it runs.
    fn log_attached(&self, conversation: &str, project: &Project, place: &Place) {
        if !self.is_cached(&place.target) {
            return;
        }
        let (sandbox, workdir) = (&place.target.name, &place.workdir);
        let project = &project.id;
        tracing::info!(
            conversation,
            project,
            sandbox,
            workdir,
            "attached to an existing container"
        );
    }

    /// Logs that a sandbox was created for a request and runs now.
    pub(super) fn log_created(&self, target: &Target) {
        let Some(project) = &target.project else {
            return;
        };
        let made = self.sandboxes.get(&target.name);
        let image = made.and_then(|it| it.status.as_ref()?.image.clone());
        let image = image.unwrap_or_default();
        let (sandbox, project, gone) = (&target.name, &project.id, &project.container_name);
        match gone {
            Some(gone) => tracing::info!(
                project,
                sandbox,
                image,
                gone,
                "the named container is gone: made another"
            ),
            None => tracing::info!(project, sandbox, image, "made a container"),
        }
    }
}
