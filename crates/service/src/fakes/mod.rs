//! In-memory implementations of the interfaces, for unit tests. They keep their state in
//! a lock, report changes through a `watch`, and fail where a test switches a fault on.

mod agents;
mod cluster;
mod database;
mod sandboxes;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use agents::{FakeAgents, exited, outcome};
pub use cluster::{FakeAttachedPods, FakeExposures, FakeSecrets, FakeSessionRecords};
pub use database::FakeDatabase;
pub use sandboxes::{FakeSandboxes, pod_of};

use crate::*;
use hutch_core::s3::{AllowedEndpoints, S3Credentials};

/// The `ready_timeout` of all tests.
pub const READY_TIMEOUT: Duration = Duration::from_secs(25);

/// A service whose interfaces are all fakes.
pub struct Fakes {
    pub sandboxes: Arc<FakeSandboxes>,
    pub agents: Arc<FakeAgents>,
    pub records: Arc<FakeSessionRecords>,
    pub secrets: Arc<FakeSecrets>,
    pub attached_pods: Arc<FakeAttachedPods>,
    pub database: Arc<FakeDatabase>,
    pub exposures: Arc<FakeExposures>,
    pub service: Arc<Service>,
}

impl Fakes {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: ServiceSettings) -> Self {
        let sandboxes = Arc::new(FakeSandboxes::default());
        let agents = Arc::new(FakeAgents::default());
        let records = Arc::new(FakeSessionRecords::default());
        let secrets = Arc::new(FakeSecrets::default());
        let attached_pods = Arc::new(FakeAttachedPods::default());
        let database = Arc::new(FakeDatabase::default());
        let exposures = Arc::new(FakeExposures::default());
        let interfaces = Interfaces {
            sandboxes: sandboxes.clone(),
            session_records: records.clone(),
            s3_secrets: secrets.clone(),
            agents: agents.clone(),
            attached_pods: attached_pods.clone(),
            projects: database.clone(),
            exposures: exposures.clone(),
        };
        Self {
            sandboxes,
            agents,
            records,
            secrets,
            attached_pods,
            database,
            exposures,
            service: Service::new(interfaces, settings),
        }
    }

    /// A service with one sandbox of the tenant API, which answers.
    pub fn with_sandbox(id: &str) -> (Self, Target) {
        let fakes = Self::new();
        let target = Target::tenant(id);
        fakes.sandboxes.put_ready(&target.name);
        (fakes, target)
    }

    /// Starts the background loops of the service.
    pub fn start_recorders(&self) {
        let service = self.service.clone();
        tokio::spawn(async move { service.run_recorders().await });
    }
}

pub fn settings() -> ServiceSettings {
    let mut project = hutch_api::SandboxSpec::default();
    project.workspace.mount_path = "/project".to_owned();
    ServiceSettings {
        acquire: AcquireSettings {
            max_sandboxes: 10,
            ready_timeout: READY_TIMEOUT,
            templates: Templates {
                tenant: hutch_api::SandboxSpec::default(),
                project,
            },
        },
        limits: Limits {
            max_output: 1 << 20,
            max_file: 1 << 10,
        },
        execute_timeout: Duration::from_secs(120),
        buckets: BucketSettings {
            credentials: Some(credentials()),
            endpoints: AllowedEndpoints::Https,
        },
        backends: BackendSettings {
            images: [("go", "golang"), ("python", "py")]
                .map(|(language, image)| (language.to_owned(), image.to_owned()))
                .into(),
            domains: vec!["example.com".to_owned()],
        },
    }
}

pub fn credentials() -> S3Credentials {
    S3Credentials {
        access_key_id: "id".to_owned(),
        secret_access_key: "key".to_owned(),
    }
}

/// The whole seconds since `begin`.
pub fn seconds_since(begin: Instant) -> u64 {
    begin.elapsed().as_secs()
}
