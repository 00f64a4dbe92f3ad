//! From a project's row to its place: the sandbox, or the attached pod, and the working
//! directory. It reads the caches, and the API server if the row names a container that
//! the caches do not show. It does not need the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::cache;
use crate::target::{Owner, Target, project_of};
use crate::work::{Base, ClientPath};
use hutch_api::{Sandbox, Workspace};
use hutch_core::interfaces::{AttachedPods, Project, Sandboxes};

/// How long to wait until the cache shows a sandbox or pod that the API server has.
const CACHE_TIMEOUT: Duration = Duration::from_secs(5);

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

    /// A place whose commands start in its working directory.
    #[cfg(test)]
    pub(crate) fn at(workdir: &str) -> Self {
        Self {
            target: Target::named("test", None),
            workdir: workdir.to_owned(),
            is_default: true,
        }
    }

    /// A path of a client. A relative one starts at the working directory.
    pub fn path<'a>(&'a self, path: &'a str) -> ClientPath<'a> {
        ClientPath {
            path,
            base: Base::Directory(&self.workdir),
        }
    }
}

/// Chooses the places of projects.
pub struct Places {
    sandboxes: Arc<dyn Sandboxes>,
    attached_pods: Arc<dyn AttachedPods>,
    /// The working directory of a new sandbox whose project sets none.
    workdir: String,
}

impl Places {
    pub fn new(
        sandboxes: Arc<dyn Sandboxes>,
        attached_pods: Arc<dyn AttachedPods>,
        workdir: String,
    ) -> Self {
        Self {
            sandboxes,
            attached_pods,
            workdir,
        }
    }

    /// The place in which the conversations of a project work. The row may name a
    /// sandbox or pod that the cache does not show yet. Then this asks the API server,
    /// and waits for the cache, before it chooses a new sandbox: a second sandbox would
    /// have none of the project's files. For the same reason a named sandbox that does not
    /// decode stays the project's place.
    pub async fn of(&self, project: &Project) -> Place {
        let place = self.cached_place(project);
        let Some(named) = project.container_name.as_deref() else {
            return place;
        };
        if self.live(named).is_none() && self.sandboxes.is_unreadable(named) {
            let wanted = project.workdir_path.as_deref();
            return self.place(Target::named(named, Some(project)), wanted);
        }
        if self.is_cached(&place.target) || !self.exists_in_cluster(named).await {
            return place;
        }
        let (mut sandboxes, mut attached_pods) =
            (self.sandboxes.changes(), self.attached_pods.changes());
        let shown = async {
            while self.live(named).is_none() && self.attached_pods.get(named).is_none() {
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

    pub fn is_cached(&self, target: &Target) -> bool {
        target.owner == Owner::AttachedPod || self.live(&target.name).is_some()
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

    /// The place of a project, from the caches alone.
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
        let named = named.and_then(|name| self.live(name));
        // In a sandbox of another owner, the project may use any directory: Hutch
        // does not mount the workspace there.
        if let Some(named) = &named
            && project_of(named) != Some(&project.id)
        {
            return self.existing(named, wanted, Some(project));
        }
        self.own_place(project, named)
    }

    /// The place of a project in a sandbox that works for it: `named`, or the oldest,
    /// or one that does not exist yet.
    fn own_place(&self, project: &Project, named: Option<Arc<Sandbox>>) -> Place {
        let wanted = project.workdir_path.as_deref();
        let workdir = wanted.filter(|path| Workspace::can_be_at(path));
        let own = Target::project(project, workdir.unwrap_or(&self.workdir));
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

    fn live(&self, name: &str) -> Option<Arc<Sandbox>> {
        cache::live(&*self.sandboxes, name)
    }

    /// The sandbox whose spec names the project, no matter who created it. If there are
    /// several, the oldest.
    pub fn oldest_sandbox_of(&self, project: &str) -> Option<Arc<Sandbox>> {
        let mut all = self.sandboxes.all();
        all.retain(|sandbox| cache::is_live(sandbox) && project_of(sandbox) == Some(project));
        let age = |sandbox: &Arc<Sandbox>| {
            let meta = &sandbox.metadata;
            (meta.creation_timestamp.clone(), meta.uid.clone())
        };
        all.into_iter().min_by_key(age)
    }

    pub fn existing(
        &self,
        sandbox: &Sandbox,
        workdir: Option<&str>,
        project: Option<&Project>,
    ) -> Place {
        let name = sandbox.metadata.name.as_deref().unwrap_or_default();
        self.place(Target::named(name, project), workdir)
    }

    pub fn place(&self, target: Target, workdir: Option<&str>) -> Place {
        let made = self.sandboxes.get(&target.name);
        let home = match (&made, target.workdir()) {
            (Some(made), _) => &made.spec.workspace.mount_path,
            (None, Some(wanted)) => wanted,
            (None, None) => &self.workdir,
        };
        Place {
            workdir: workdir.unwrap_or(home).to_owned(),
            is_default: workdir.is_none_or(|workdir| workdir == home),
            target: target.clone(),
        }
    }
}
