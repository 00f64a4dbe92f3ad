//! The use cases behind the REST contracts: they find the sandbox that a request
//! means, wake it and work in it. This crate reaches Kubernetes, the agents and the
//! database only through [`hutch_core::interfaces`]. It knows nothing of HTTP.
//!
//! There is one [`Service`] per namespace. It only assembles its parts. A part has a
//! constructor of its own, which takes the interfaces and the parts that it needs.
//!
//! | part | use cases | module |
//! | --- | --- | --- |
//! | [`Acquirer`] | From a request to a pod that answers. | `acquire` |
//! | [`Sessions`] | Open, close and list sessions; write their resources. | `sessions` |
//! | [`Work`] | Run commands, read and write files, search. | `work` |
//! | [`Buckets`] | Mount and unmount buckets at run time. | `buckets` |
//! | [`Projects`] | The place in which a conversation or a project works. | `projects` |
//! | [`Backends`] | Create, expose and delete sandboxes for the project API. | `backends` |
//! | [`Toolchains`] | Run code in a language; run the checkers of an image. | `toolchains` |
//!
//! # Where to read
//!
//! A request first becomes a [`Target`] or a [`Place`]. Then [`Acquirer`] acquires a pod
//! of it and calls the pod's agent.
//!
//! | module | contents |
//! | --- | --- |
//! | `target` | The sandbox that a request means, and its owner. Pure. |
//! | `places` | From a project's row to its sandbox and working directory. |
//! | `acquire/usable` | Create, wake and wait for a sandbox. |
//! | `acquire/creation` | The creation of a sandbox, and the limit. |
//! | `acquire/lifecycle` | Set the lifecycle of a sandbox; delete it. |
//! | `acquire/attached_pods` | Wait for a pod that somebody else created. |
//! | `acquire/reach` | Call the agent of a target, and try again if its pod has just gone. |
//! | `acquire/activity` | Record when sandboxes are used. |
//! | `sessions/log`, `sessions/records` | The changes of sessions, and their resources. |
//! | `work/files`, `work/edit`, `work/search` | Files: one, an edit of one, many. |
//! | `projects/lookups` | The last answers of the database. |
//! | `toolchains/languages` | Run code. |
//! | `toolchains/diagnostics` | Run checkers: `plan`, `checker`, `parse`, `paths`. |
//! | `cache` | Wait for a change of the cache. |
//! | `periodic` | Periodic work on many sandboxes. |
//! | `error` | The errors that most use cases share. |
//! | `fakes` | The interfaces in memory, for unit tests. |
//!
//! Two loops run in the background ([`Service::run_recorders`]). Requests only note in
//! memory what has happened. The loops write it to the cluster later, so no request
//! waits for such a write.

mod acquire;
mod backends;
mod buckets;
mod cache;
mod error;
#[cfg(test)]
mod fakes;
mod periodic;
mod places;
mod projects;
mod sessions;
mod target;
mod toolchains;
mod work;

use std::sync::Arc;
use std::time::Duration;

pub use acquire::{AcquireSettings, Acquirer, LifecycleChange};
pub use backends::{Backend, BackendError, BackendSettings, Backends};
pub use buckets::{BucketError, BucketSettings, Buckets, Mount};
pub use error::ServiceError;
pub use places::Place;
pub use projects::Projects;
pub use sessions::Sessions;
pub use target::{Target, Templates};
pub use toolchains::{Diagnosis, Finding, LanguageError, MAX_FILES, Toolchains};
pub use work::{Base, ClientPath, EditError, Limits, Occurrences, SearchKind, Work};

use tokio::sync::watch;

use hutch_core::interfaces::{
    self, Agents, AttachedPods, Exposures, S3Secrets, Sandboxes, SessionRecords,
};

/// The settings of a [`Service`].
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// How sandboxes are created, and how long requests wait for them.
    pub acquire: AcquireSettings,
    /// The limits of commands and files.
    pub limits: Limits,
    /// The timeout of code that the project API runs and that names none.
    pub execute_timeout: Duration,
    /// The buckets that may be mounted.
    pub buckets: BucketSettings,
    /// The images and domains that the project API offers.
    pub backends: BackendSettings,
}

/// The implementations that a [`Service`] works with.
pub struct Interfaces {
    /// The Sandbox resources.
    pub sandboxes: Arc<dyn Sandboxes>,
    /// The SandboxSession resources.
    pub session_records: Arc<dyn SessionRecords>,
    /// The Secrets with the S3 credentials of buckets.
    pub s3_secrets: Arc<dyn S3Secrets>,
    /// The agents in the pods.
    pub agents: Arc<dyn Agents>,
    /// The attached pods: somebody else created them.
    pub attached_pods: Arc<dyn AttachedPods>,
    /// The projects of the shared database.
    pub projects: Arc<dyn interfaces::Projects>,
    /// The Services and Ingresses that lead to sandboxes.
    pub exposures: Arc<dyn Exposures>,
}

/// The use cases over the sandboxes of one namespace.
///
/// A process has one `Service` per namespace that it serves. Limits, locks and logs
/// of its parts count for that namespace and this process alone.
pub struct Service {
    /// Finds, creates, wakes and deletes sandboxes.
    pub acquirer: Arc<Acquirer>,
    /// The sessions of sandboxes.
    pub sessions: Arc<Sessions>,
    /// Commands, files and searches in a sandbox.
    pub work: Arc<Work>,
    /// The mounts of sandboxes.
    pub buckets: Arc<Buckets>,
    /// Conversations and projects.
    pub projects: Projects,
    /// The sandboxes of backends.
    pub backends: Backends,
    /// Languages and checkers.
    pub toolchains: Toolchains,
    ready_timeout: Duration,
    /// One receiver per cache: 0 until the cache has been filled once.
    caches: [watch::Receiver<u64>; 3],
}

impl Service {
    /// Makes the service of one namespace. The background loops are not started: see
    /// [`Self::run_recorders`].
    pub fn new(with: Interfaces, settings: ServiceSettings) -> Arc<Self> {
        let ready_timeout = settings.acquire.ready_timeout;
        let caches = [
            with.sandboxes.changes(),
            with.attached_pods.changes(),
            with.session_records.changes(),
        ];
        let acquirer = Arc::new(Acquirer::new(
            with.sandboxes.clone(),
            with.attached_pods.clone(),
            with.agents.clone(),
            settings.acquire,
        ));
        let sessions = Arc::new(Sessions::new(
            acquirer.clone(),
            with.sandboxes.clone(),
            with.agents.clone(),
            with.session_records,
        ));
        let work = Arc::new(Work::new(
            acquirer.clone(),
            sessions.clone(),
            with.agents,
            settings.limits,
        ));
        Arc::new(Self {
            buckets: Arc::new(Buckets::new(
                acquirer.clone(),
                sessions.clone(),
                with.sandboxes.clone(),
                with.s3_secrets,
                settings.buckets,
            )),
            projects: Projects::new(acquirer.clone(), with.sandboxes.clone(), with.projects),
            backends: Backends::new(
                acquirer.clone(),
                with.sandboxes,
                with.attached_pods,
                with.exposures,
                settings.backends,
            ),
            toolchains: Toolchains::new(work.clone(), settings.limits, settings.execute_timeout),
            acquirer,
            sessions,
            work,
            ready_timeout,
            caches,
        })
    }

    /// Waits until the caches have been filled once. Before that, an object may exist
    /// although the cache does not have it.
    ///
    /// # Errors
    /// [`ServiceError::Starting`] if that takes longer than `ready_timeout`.
    pub async fn listed(&self) -> Result<(), ServiceError> {
        let all = async {
            for mut changes in self.caches.clone() {
                // An error means that the sender is gone, so nothing changes any more:
                // waiting is over as well.
                let _ = changes.wait_for(|version| *version > 0).await;
            }
        };
        let waited = self.ready_timeout;
        let listed = tokio::time::timeout(waited, all).await;
        listed.map_err(|_| ServiceError::Starting { waited })
    }

    /// Writes the activity of sandboxes and the resources of sessions for as long as it
    /// is polled. Run it once per service.
    pub async fn run_recorders(&self) {
        tokio::join!(
            self.acquirer.activity.run_recorder(),
            self.sessions.run_recorder()
        );
    }
}
