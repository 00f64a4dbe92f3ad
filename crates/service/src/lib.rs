//! The use cases behind the REST contracts: which sandbox a request means, how
//! it comes to be awake, what is run in it. Knows Kubernetes and the agents
//! through `domain::interfaces` only, and HTTP not at all.

mod activity;
mod backends;
mod buckets;
mod conversations;
mod diagnostics;
mod edit;
mod error;
mod exec;
mod files;
mod guests;
mod languages;
mod projects;
mod reach;
mod rounds;
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
use hutch_core::buckets::Credentials;
use hutch_core::interfaces::{
    Agents, BucketKeys, DatabaseState, Exposures, Guests, Projects, Sandboxes, SessionRecords,
};
use hutch_core::turns::Turns;
use projects::Resolutions;
use session_log::SessionLog;

/// What the operator of the service decides.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Sandboxes in the namespace at most.
    pub max_sandboxes: usize,
    /// How long a request waits for its sandbox to answer; under the 30 s after
    /// which known clients give up.
    pub ready_timeout: Duration,
    /// Bytes kept of each of a command's stdout and stderr.
    pub max_output: u64,
    /// Bytes of the largest file that is read.
    pub max_file: u64,
    /// How long code of the project contract may run that names no time-out.
    pub execute_timeout: Duration,
    /// Spec of the sandboxes that tenants' requests create.
    pub template: SandboxSpec,
    /// Spec of those that conversations and projects get.
    pub project_template: SandboxSpec,
    /// Keys of buckets for which a request has none.
    pub bucket_credentials: Option<Credentials>,
    /// Whether buckets may have endpoints without TLS.
    pub allow_http_buckets: bool,
    /// What backends may ask for.
    pub backends: BackendSettings,
}

/// What lies behind the use cases.
pub struct Interfaces {
    /// The Sandbox resources.
    pub sandboxes: Arc<dyn Sandboxes>,
    /// The SandboxSession resources.
    pub session_records: Arc<dyn SessionRecords>,
    /// The Secrets with the keys of buckets.
    pub bucket_keys: Arc<dyn BucketKeys>,
    /// The agents in the pods.
    pub agents: Arc<dyn Agents>,
    /// Pods of others.
    pub guests: Arc<dyn Guests>,
    /// The shared database.
    pub projects: Arc<dyn Projects>,
    /// Services and Ingresses.
    pub exposures: Arc<dyn Exposures>,
}

/// The use cases. One per process.
pub struct Service {
    sandboxes: Arc<dyn Sandboxes>,
    session_records: Arc<dyn SessionRecords>,
    bucket_keys: Arc<dyn BucketKeys>,
    agents: Arc<dyn Agents>,
    guests: Arc<dyn Guests>,
    projects: Arc<dyn Projects>,
    exposures: Arc<dyn Exposures>,
    resolutions: Resolutions,
    settings: ServiceSettings,
    activity: ActivityLog,
    session_log: SessionLog,
    /// Names of sandboxes being created, for the limit: the cache does not show
    /// them yet.
    creating: Mutex<HashMap<String, Creation>>,
    /// Sandboxes in which a file is being edited.
    edits: Turns<String>,
    /// Hosts that are being led to a sandbox.
    hosts: Turns<String>,
}

impl Service {
    /// The use cases over these interfaces.
    pub fn new(interfaces: Interfaces, settings: ServiceSettings) -> Arc<Self> {
        let Interfaces {
            sandboxes,
            session_records,
            bucket_keys,
            agents,
            guests,
            projects,
            exposures,
        } = interfaces;
        Arc::new(Self {
            sandboxes,
            session_records,
            bucket_keys,
            agents,
            guests,
            projects,
            exposures,
            resolutions: Resolutions::default(),
            settings,
            activity: ActivityLog::default(),
            session_log: SessionLog::default(),
            creating: Mutex::default(),
            edits: Turns::default(),
            hosts: Turns::default(),
        })
    }

    /// Waits until the caches have been filled once: before, what is not in them may
    /// exist all the same.
    ///
    /// # Errors
    /// [`ServiceError::Starting`] where that takes longer than a sandbox may take.
    pub async fn listed(&self) -> Result<(), ServiceError> {
        let first = async |mut changes: watch::Receiver<u64>| {
            // Without its sender it changes no more, which is an answer, too.
            let _ = changes.wait_for(|version| *version > 0).await;
        };
        let all = async {
            first(self.sandboxes.changes()).await;
            first(self.guests.changes()).await;
            first(self.session_records.changes()).await;
        };
        let waited = self.settings.ready_timeout;
        let listed = tokio::time::timeout(waited, all).await;
        listed.map_err(|_| ServiceError::Starting { waited })
    }

    /// How it stands with the database.
    pub fn database(&self) -> DatabaseState {
        self.projects.state()
    }

    /// How many sandboxes answer commands now.
    pub fn awake(&self) -> usize {
        self.sandboxes.awake()
    }
}
