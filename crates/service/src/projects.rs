//! From a conversation or a project to its sandbox. A conversation of a project
//! works in the project's sandbox; every other has a sandbox of its own. Without
//! its database the service goes by what it knew last, and by what the sandboxes
//! themselves say; no request fails for the database's sake that needs none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::Service;
use super::files::{Base, ClientPath};
use super::target::{Target, Whose, project_of};
use hutch_api::{Sandbox, Workspace};
use hutch_core::interfaces::{DatabaseError, Integration, Project};

/// How long a look-up is believed: as long as `container_name` may be behind.
const FRESH: Duration = Duration::from_secs(5);
/// How long a conversation that was never looked up waits for a database that has
/// just gone: once it has a sandbox of its own, its files are there.
const HESITATION: Duration = Duration::from_secs(10);
/// When such a look-up is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long what exists may take to show in the cache.
const LAG: Duration = Duration::from_secs(5);
/// Conversations that are remembered for the time without a database.
const REMEMBERED: usize = 10_000;

/// The directory that a container's image or spec says, as its agent takes it.
const CONTAINERS_OWN: &str = ".";

/// Where the requests of a conversation go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sandbox, or the pod that is used as one.
    pub target: Target,
    /// Its working directory; `.` is the one that the container has by itself.
    pub workdir: String,
    /// Whether commands begin there by themselves.
    at_home: bool,
}

impl Place {
    /// The directory to be named for a command that is to run in the working
    /// directory; none where it begins there by itself.
    pub fn cwd(&self) -> Option<String> {
        (!self.at_home).then(|| self.workdir.clone())
    }

    /// A path, which begins at the working directory where it is relative.
    pub fn path<'a>(&'a self, path: &'a str) -> ClientPath<'a> {
        ClientPath {
            path,
            base: Base::Folder(&self.workdir),
        }
    }
}

/// What the database said last.
#[derive(Default)]
pub struct Resolutions(Mutex<HashMap<String, Known>>);

struct Known {
    at: Instant,
    project: Option<Project>,
    /// The sandbox that the log has told of.
    told: Option<String>,
}

impl Resolutions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a conversation, and whether that is fresh.
    fn get(&self, conversation: &str) -> Option<(Option<Project>, bool)> {
        let all = self.lock();
        let known = all.get(conversation)?;
        Some((known.project.clone(), known.at.elapsed() < FRESH))
    }

    fn set(&self, conversation: &str, project: Option<Project>) {
        let mut all = self.lock();
        if all.len() >= REMEMBERED && !all.contains_key(conversation) {
            let oldest = all.iter().min_by_key(|(_, known)| known.at);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                all.remove(&oldest);
            }
        }
        let told = all.remove(conversation).and_then(|known| known.told);
        let at = Instant::now();
        all.insert(conversation.to_owned(), Known { at, project, told });
    }

    /// Whether this is the first that is told of the conversation and sandbox.
    fn first(&self, conversation: &str, sandbox: &str) -> bool {
        let mut all = self.lock();
        let Some(known) = all.get_mut(conversation) else {
            return true;
        };
        let told = known.told.replace(sandbox.to_owned());
        told.as_deref() != Some(sandbox)
    }
}

impl Service {
    /// Where a conversation works.
    pub async fn conversation(&self, id: &str) -> Place {
        match self.project_of_conversation(id).await {
            Some(project) => {
                let place = self.place_of(&project).await;
                if self.resolutions.first(id, &place.target.name) {
                    self.tell(id, &project, &place);
                }
                place
            }
            None => self.place(Target::conversation(id), None),
        }
    }

    /// Where a project works; `None` where there is no such project.
    ///
    /// # Errors
    /// The database's, where no sandbox tells of the project either.
    pub async fn project(&self, id: &str) -> Result<Option<Place>, DatabaseError> {
        match self.projects.get(id).await {
            Ok(Some(project)) => Ok(Some(self.place_of(&project).await)),
            Ok(None) => Ok(None),
            Err(error) => match self.sandbox_for(id) {
                Some(sandbox) => Ok(Some(self.existing(&sandbox, None, None))),
                None => Err(error),
            },
        }
    }

    async fn project_of_conversation(&self, id: &str) -> Option<Project> {
        let known = self.resolutions.get(id);
        if let Some((project, true)) = known {
            return project;
        }
        let give_up = Instant::now() + HESITATION;
        loop {
            let error = match self.projects.of_session(id).await {
                Ok(project) => {
                    self.resolutions.set(id, project.clone());
                    return project;
                }
                Err(error) => error,
            };
            // What is wrong with the database is in the log already, now and then.
            tracing::debug!(conversation = id, %error, "the project was not looked up");
            match known {
                Some((project, _)) => return project,
                None if error.away() && self.just_lost() && Instant::now() < give_up => {
                    tokio::time::sleep(AGAIN).await;
                }
                None => return None,
            }
        }
    }

    /// Whether the database answered a moment ago, or has not had the time to.
    fn just_lost(&self) -> bool {
        let state = self.projects.state();
        let since = Timestamp::now().duration_since(state.since);
        match state.integration {
            Integration::Connected => true,
            Integration::Away => since.unsigned_abs() < HESITATION,
            Integration::NotConfigured => false,
        }
    }

    /// Where the conversations of a project work. Before a sandbox is made for one
    /// whose row names another, it is looked whether that is only not in the cache
    /// yet: a second one would have none of its files.
    pub(super) async fn place_of(&self, project: &Project) -> Place {
        let place = self.place_by_cache(project);
        let Some(named) = project.container_name.as_deref() else {
            return place;
        };
        if self.is_there(&place.target) || !self.exists(named).await {
            return place;
        }
        let (mut sandboxes, mut guests) = (self.sandboxes.changes(), self.guests.changes());
        let shown = async {
            while self.living(named).is_none() && self.guests.get(named).is_none() {
                tokio::select! {
                    _ = sandboxes.changed() => {}
                    _ = guests.changed() => {}
                }
            }
        };
        // Where it never shows, it is as good as gone.
        let _ = timeout(LAG, shown).await;
        self.place_by_cache(project)
    }

    fn is_there(&self, target: &Target) -> bool {
        target.whose == Whose::Guest || self.living(&target.name).is_some()
    }

    /// Whether the API server has a sandbox of that name, or a pod to be worked in.
    /// Where it does not say, it takes no new sandbox either.
    async fn exists(&self, name: &str) -> bool {
        match self.sandboxes.fetch(name).await {
            Ok(Some(sandbox)) => sandbox.metadata.deletion_timestamp.is_none(),
            Ok(None) => self.guests.exists(name).await.unwrap_or(false),
            Err(_) => false,
        }
    }

    fn place_by_cache(&self, project: &Project) -> Place {
        let wanted = project.workdir_path.as_deref();
        let named = project.container_name.as_deref();
        if let Some(pod) = named.filter(|name| self.guests.get(name).is_some()) {
            return Place {
                target: Target::guest(pod, project),
                workdir: wanted.unwrap_or(CONTAINERS_OWN).to_owned(),
                at_home: wanted.is_none(),
            };
        }
        let named = named.and_then(|name| self.living(name));
        // Of a sandbox that is not the project's own, the directory may be any.
        if let Some(named) = &named
            && project_of(named) != Some(&project.id)
        {
            return self.existing(named, wanted, Some(project));
        }
        let workdir = wanted.filter(|path| Workspace::can_be_at(path));
        let default = &self.settings.project_template.workspace.mount_path;
        let own = Target::project(project, workdir.unwrap_or(default));
        if let Some(sandbox) = named.or_else(|| self.sandbox_for(&project.id)) {
            // The one that would be made can be made again, should it go now.
            return match sandbox.metadata.name.as_ref() == Some(&own.name) {
                true => self.place(own, workdir),
                false => self.existing(&sandbox, workdir, Some(project)),
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

    /// A sandbox that is not about to go.
    pub(super) fn living(&self, name: &str) -> Option<Arc<Sandbox>> {
        let sandbox = self.sandboxes.get(name)?;
        sandbox
            .metadata
            .deletion_timestamp
            .is_none()
            .then_some(sandbox)
    }

    /// The sandbox that works for a project, whoever made it; of several, the
    /// oldest.
    fn sandbox_for(&self, project: &str) -> Option<Arc<Sandbox>> {
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
            at_home: workdir.is_none_or(|workdir| workdir == home),
            target: target.clone(),
        }
    }

    /// One that is made is told of when it runs.
    fn tell(&self, conversation: &str, project: &Project, place: &Place) {
        if !self.is_there(&place.target) {
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

    /// A sandbox was made for a request, and runs.
    pub(super) fn tell_made(&self, target: &Target) {
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
