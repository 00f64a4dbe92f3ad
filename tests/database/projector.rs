//! The projector with a real PostgreSQL server and sandboxes in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use hutch_api::{Phase, Sandbox, SandboxSpec, SandboxStatus};
use hutch_core::interfaces::{ProjectReport, ProjectSandboxes, ResourceError};
use hutch_core::reasons::Reason;
use hutch_core::sync::Lock;
use hutch_db::Projector;
use tokio::sync::watch;

use crate::opened;
use crate::postgres::Postgres;

/// The longest time until a test sees the change that it waits for.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct FakeSandboxes {
    all: Lock<Vec<Arc<Sandbox>>>,
    changes: watch::Sender<u64>,
    /// True if the replica does not lead, and how often the projector asked.
    follows: AtomicBool,
    leader_looks: AtomicUsize,
    /// The name of a sandbox that does not decode, and how often it was asked for.
    unreadable: Lock<Option<String>>,
    unreadable_looks: AtomicUsize,
    /// The only pod that is alive besides those of the sandboxes.
    alive: Lock<Option<String>>,
    /// The reasons of the reports, in order.
    reports: Lock<Vec<String>>,
}

impl FakeSandboxes {
    /// Replaces all sandboxes by one of the project `P`.
    fn set(&self, name: &str, phase: Phase) {
        let project = hutch_api::Project { id: "P".to_owned() };
        let spec = SandboxSpec {
            project: Some(project),
            ..SandboxSpec::default()
        };
        let mut sandbox = Sandbox::new(name, spec);
        sandbox.metadata.uid = Some(format!("uid-{name}"));
        sandbox.metadata.namespace = Some("ns".to_owned());
        sandbox.status = Some(SandboxStatus {
            phase,
            pod_name: (phase == Phase::Ready).then(|| name.to_owned()),
            ..SandboxStatus::default()
        });
        *self.all.lock() = vec![Arc::new(sandbox)];
        self.changes.send_modify(|version| *version += 1);
    }
}

impl ProjectSandboxes for FakeSandboxes {
    fn may_write(&self) -> Option<Duration> {
        self.leader_looks.fetch_add(1, Ordering::Relaxed);
        let leads = !self.follows.load(Ordering::Relaxed);
        leads.then_some(Duration::from_secs(5))
    }

    fn all(&self) -> Vec<Arc<Sandbox>> {
        self.all.lock().clone()
    }

    fn is_unreadable(&self, name: &str) -> bool {
        let is_it = self.unreadable.lock().as_deref() == Some(name);
        if is_it {
            self.unreadable_looks.fetch_add(1, Ordering::Relaxed);
        }
        is_it
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn pod_lives<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>> {
        ready(Ok(self.alive.lock().as_deref() == Some(name))).boxed()
    }

    fn report<'a>(
        &'a self,
        _: &'a Sandbox,
        report: Option<&'a ProjectReport>,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        let reason = report.map(|report| report.condition.reason.clone());
        self.reports.lock().extend(reason);
        ready(Ok(())).boxed()
    }

    fn warn<'a>(&'a self, _: &'a Sandbox, _: Reason, _: &'a str) -> BoxFuture<'a, ()> {
        ready(()).boxed()
    }
}

struct Scene {
    postgres: Postgres,
    sandboxes: Arc<FakeSandboxes>,
}

impl Scene {
    /// A projector that runs, and the project `P`.
    async fn new() -> Self {
        let postgres = Postgres::start().await;
        postgres.project("P").await;
        let sandboxes = Arc::new(FakeSandboxes::default());
        let projector = Projector::new(opened(&postgres), sandboxes.clone());
        tokio::spawn(async move { projector.run().await });
        Self {
            postgres,
            sandboxes,
        }
    }

    async fn write_name(&self, name: &str) {
        let statement = format!("UPDATE projects SET container_name = '{name}' WHERE id = 'P'");
        self.postgres.sql(&statement).await;
    }

    async fn name(&self) -> Option<String> {
        self.postgres.container("P").await
    }

    async fn until_name(&self, wanted: Option<&str>) {
        let give_up = Instant::now() + WAIT_TIMEOUT;
        while self.name().await.as_deref() != wanted {
            let name = self.name().await;
            assert!(Instant::now() < give_up, "{name:?} is not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&FakeSandboxes) -> bool) {
        let give_up = Instant::now() + WAIT_TIMEOUT;
        while !holds(&self.sandboxes) {
            assert!(Instant::now() < give_up, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_row_names_the_pod_while_it_runs() {
    let scene = Scene::new().await;
    scene.sandboxes.set("one", Phase::Ready);
    scene.until_name(Some("one")).await;
    scene.sandboxes.set("one", Phase::Suspended);
    scene.until_name(None).await;
    let reports = scene.sandboxes.reports.lock().clone();
    assert!(
        reports.iter().all(|reason| reason == "Synced"),
        "{reports:?}"
    );
}

#[tokio::test]
async fn a_replica_that_does_not_lead_writes_nothing_until_it_leads() {
    let scene = Scene::new().await;
    scene.sandboxes.follows.store(true, Ordering::Relaxed);
    scene.write_name("old").await;
    scene.sandboxes.set("one", Phase::Ready);
    let before = scene.sandboxes.leader_looks.load(Ordering::Relaxed);
    let looked = |it: &FakeSandboxes| it.leader_looks.load(Ordering::Relaxed) > before + 1;
    scene.until("the projector looks twice", looked).await;
    assert_eq!(scene.name().await.as_deref(), Some("old"));
    assert!(scene.sandboxes.reports.lock().is_empty());
    scene.sandboxes.follows.store(false, Ordering::Relaxed);
    scene.until_name(Some("one")).await;
}

#[tokio::test]
async fn a_name_that_somebody_else_wrote_stays_while_its_pod_is_alive() {
    let scene = Scene::new().await;
    *scene.sandboxes.alive.lock() = Some("theirs".to_owned());
    scene.write_name("theirs").await;
    scene.sandboxes.set("one", Phase::Ready);
    let reported = |it: &FakeSandboxes| it.reports.lock().iter().any(|it| it == "SetByOthers");
    scene.until("it is reported", reported).await;
    assert_eq!(scene.name().await.as_deref(), Some("theirs"));
    *scene.sandboxes.alive.lock() = None;
    scene.until_name(Some("one")).await;
}

#[tokio::test]
async fn a_row_that_names_a_sandbox_that_does_not_decode_stays() {
    let scene = Scene::new().await;
    *scene.sandboxes.unreadable.lock() = Some("future".to_owned());
    scene.write_name("future").await;
    scene.sandboxes.set("one", Phase::Ready);
    let looked = |it: &FakeSandboxes| it.unreadable_looks.load(Ordering::Relaxed) > 1;
    scene.until("the row is looked at twice", looked).await;
    assert_eq!(scene.name().await.as_deref(), Some("future"));
    *scene.sandboxes.unreadable.lock() = None;
    scene.until_name(Some("one")).await;
}
