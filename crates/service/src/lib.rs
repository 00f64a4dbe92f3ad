//! The use cases behind the REST contracts: they find the sandbox that a request
//! means, wake it and work in it. This crate reaches Kubernetes, the agents and the
//! database only through [`hutch_core::interfaces`]. It knows nothing of HTTP.
//!
//! # Where to read
//!
//! A request first becomes a [`Target`] or a [`Place`]. Then `reach` calls the agent.
//!
//! | step | module |
//! | --- | --- |
//! | Find the sandbox of a tenant's ID. | `target` |
//! | Find the sandbox and the working directory of a conversation or a project. | `projects` |
//! | Create, wake, wait for and delete a sandbox. | `sandboxes` |
//! | Wait for a pod that somebody else created. | `attached_pods` |
//! | Call the agent of a target, and try again if its pod has just gone. | `reach` |
//!
//! The work in a sandbox:
//!
//! | use case | module |
//! | --- | --- |
//! | Run a command. | `exec` |
//! | Run code in a language. | `languages` |
//! | Open, close and configure sessions. | `sessions` |
//! | Read and write files, edit one, search in many. | `files`, `edit`, `search` |
//! | Run the checkers of an image over its sources. | `diagnostics` |
//! | Mount and unmount buckets. | `buckets` |
//! | List and end conversations. | `conversations` |
//! | Create, expose and delete sandboxes for the project API. | `backends` |
//!
//! Two loops run in the background, [`Service::record_activity`] in `activity` and
//! [`Service::record_sessions`] in `session_records`. Requests only note in memory
//! what has happened (`activity`, `session_log`). The loops write it to the cluster
//! later, so no request waits for such a write. `periodic` schedules both.
//!
//! `error` holds the errors that most use cases share.

mod activity;
mod attached_pods;
mod backends;
mod buckets;
mod conversations;
mod diagnostics;
mod edit;
mod error;
mod exec;
mod files;
mod languages;
mod periodic;
mod projects;
mod reach;
mod sandboxes;
mod search;
mod session_log;
mod session_records;
mod sessions;
mod target;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use backends::{Backend, BackendError, BackendSettings};
pub use buckets::{BucketError, Mount};
pub use diagnostics::{Diagnosis, Finding, MOST_FILES};
pub use edit::EditError;
pub use error::ServiceError;
pub use files::{Base, ClientPath};
pub use languages::LanguageError;
pub use projects::Place;
use sandboxes::Creation;
pub use sandboxes::LifecycleChange;
pub use search::Wanted;
pub use target::Target;

use tokio::sync::watch;

use activity::ActivityLog;
use hutch_api::SandboxSpec;
use hutch_core::buckets::S3Credentials;
use hutch_core::interfaces::{
    Agents, AttachedPods, DatabaseState, Exposures, Projects, S3Secrets, Sandboxes, SessionRecords,
};
use hutch_core::sync::KeyedMutex;
use projects::Resolutions;
use session_log::SessionLog;

/// The settings of a [`Service`].
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// The maximum number of sandboxes in the namespace.
    pub max_sandboxes: usize,
    /// How long a request waits for its sandbox to answer. It must be less than
    /// 30 s: known clients give up then.
    pub ready_timeout: Duration,
    /// The bytes that are kept of a command's stdout, and as many of its stderr.
    pub max_output: u64,
    /// The size in bytes of the largest file that can be read.
    pub max_file: u64,
    /// The timeout of code that the project API runs and that names none.
    pub execute_timeout: Duration,
    /// The spec of sandboxes that requests of the tenant API create.
    pub template: SandboxSpec,
    /// The spec of sandboxes that are created for conversations and projects.
    pub project_template: SandboxSpec,
    /// The S3 credentials for mounts whose request brings none.
    pub bucket_credentials: Option<S3Credentials>,
    /// True if a bucket's endpoint may be `http`.
    pub allow_http_buckets: bool,
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
    pub projects: Arc<dyn Projects>,
    /// The Services and Ingresses that lead to sandboxes.
    pub exposures: Arc<dyn Exposures>,
}

/// The use cases over the sandboxes of one namespace.
///
/// A process has one `Service` per namespace that it serves. Limits, locks and logs
/// in here count for that namespace and this process alone.
pub struct Service {
    sandboxes: Arc<dyn Sandboxes>,
    session_records: Arc<dyn SessionRecords>,
    s3_secrets: Arc<dyn S3Secrets>,
    agents: Arc<dyn Agents>,
    attached_pods: Arc<dyn AttachedPods>,
    projects: Arc<dyn Projects>,
    exposures: Arc<dyn Exposures>,
    resolutions: Resolutions,
    settings: ServiceSettings,
    activity: ActivityLog,
    session_log: SessionLog,
    /// Sandboxes that are being created, by name. The limit counts them: the cache
    /// does not show them yet.
    creating: Mutex<HashMap<String, Creation>>,
    /// One lock per sandbox: edits of files run one after another.
    edits: KeyedMutex<String>,
    /// One lock per host name: its route is checked and set in one piece.
    hosts: KeyedMutex<String>,
}

impl Service {
    /// Makes the service of one namespace. The background loops are not started:
    /// see [`Self::record_activity`] and [`Self::record_sessions`].
    pub fn new(interfaces: Interfaces, settings: ServiceSettings) -> Arc<Self> {
        let Interfaces {
            sandboxes,
            session_records,
            s3_secrets,
            agents,
            attached_pods,
            projects,
            exposures,
        } = interfaces;
        Arc::new(Self {
            sandboxes,
            session_records,
            s3_secrets,
            agents,
            attached_pods,
            projects,
            exposures,
            resolutions: Resolutions::default(),
            settings,
            activity: ActivityLog::default(),
            session_log: SessionLog::default(),
            creating: Mutex::default(),
            edits: KeyedMutex::default(),
            hosts: KeyedMutex::default(),
        })
    }

    /// Waits until the caches have been filled once. Before that, an object may exist
    /// although the cache does not have it.
    ///
    /// # Errors
    /// [`ServiceError::Starting`] if that takes longer than `ready_timeout`.
    pub async fn listed(&self) -> Result<(), ServiceError> {
        let first = async |mut changes: watch::Receiver<u64>| {
            // An error means that the sender is gone, so nothing changes any more:
            // waiting is over as well.
            let _ = changes.wait_for(|version| *version > 0).await;
        };
        let all = async {
            first(self.sandboxes.changes()).await;
            first(self.attached_pods.changes()).await;
            first(self.session_records.changes()).await;
        };
        let waited = self.settings.ready_timeout;
        let listed = tokio::time::timeout(waited, all).await;
        listed.map_err(|_| ServiceError::Starting { waited })
    }

    /// The state of the connection to the database.
    pub fn database(&self) -> DatabaseState {
        self.projects.state()
    }

    /// The number of sandboxes that answer commands now, as the cache has it.
    pub fn awake(&self) -> usize {
        self.sandboxes.awake()
    }
}
