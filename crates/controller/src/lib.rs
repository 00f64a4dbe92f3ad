//! The controllers. Only the leader runs them. Every write uses
//! `hutch_kube::apply`, which checks the leadership first. A replica that loses its
//! lease drops its reconciles at once.
//!
//! Where to read:
//!
//! - `sandbox`: reconciles a Sandbox into a pod, claims and a status. Start here.
//! - `session`: opens and closes sessions to match the SandboxSessions.
//! - `sweep`: deletes leftover volumes and Secrets of buckets.
//! - `triggers`: maps each change to the objects to reconcile.
//! - `queue`: runs the reconciles that the triggers ask for.
//! - `backoff`: delays retries after failures.
//! - `outcome`: counts and logs the results of reconciles.
//! - [`context`]: settings, caches and writers of the sandbox controller.

mod backoff;
pub mod context;
mod outcome;
mod queue;
mod sandbox;
mod session;
mod sweep;
mod triggers;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::context::{Context, PodSettings};
use self::outcome::Metrics;
use self::queue::{Kind, Loop};
use self::triggers::{orphan_triggers, sandbox_triggers, session_triggers};
use hutch_api::{Sandbox, SandboxSession, managers};
use hutch_core::interfaces::Sessions;
use hutch_core::sync::Lock;
use hutch_kube::apply::{Error, Writer};
use hutch_kube::caches::Caches;
use hutch_kube::lease::Leadership;
use hutch_kube::watches::Cache;

/// Time for running reconciles to end at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// All controllers of the operator.
pub struct Controllers {
    client: Client,
    caches: Caches,
    agents: Arc<dyn Sessions>,
    settings: PodSettings,
    leadership: Leadership,
    metrics: Metrics,
}

impl Controllers {
    /// Controllers that read from `caches` and write with `client` while `leadership`
    /// holds. Each write has a deadline of ten seconds, which includes the retries
    /// of `client`: its calls should have a timeout.
    pub fn new(
        client: Client,
        caches: Caches,
        agents: Arc<dyn Sessions>,
        settings: PodSettings,
        leadership: Leadership,
        registry: &mut Registry,
    ) -> Self {
        Self {
            client,
            caches,
            agents,
            settings,
            leadership,
            metrics: Metrics::register(registry),
        }
    }

    /// Runs the controllers whenever this replica leads and the caches are synced,
    /// until `shutdown`. Then it waits up to eight seconds for running reconciles.
    /// The caller must not release the lease before this returns.
    pub async fn run(self, shutdown: CancellationToken) {
        while shutdown
            .run_until_cancelled(self.wait_for_leadership())
            .await
            .is_some()
        {
            self.metrics.started_leading();
            self.lead(&shutdown).await;
            self.metrics.stopped_leading();
        }
    }

    /// Returns when the caches are synced and this replica leads.
    async fn wait_for_leadership(&self) {
        self.caches.wait_until_synced().await;
        self.leadership.gained().await;
    }

    /// Runs the controllers until the leadership is lost or `shutdown`.
    async fn lead(&self, shutdown: &CancellationToken) {
        info!("controllers run");
        let work = futures::future::join(self.sandboxes(shutdown), self.sessions(shutdown));
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            () = self.leadership.lost() => warn!("the lease is lost: controllers stop"),
            _ = work => info!("controllers have ended"),
            () = overdue => warn!("controllers did not end in time"),
        }
    }

    fn controller<'a, K: Kind>(
        &self,
        name: &'static str,
        cache: &'a Cache<K>,
        stop: &CancellationToken,
    ) -> Loop<'a, K> {
        Loop {
            name,
            cache,
            metrics: self.metrics.clone(),
            stop: stop.clone(),
        }
    }

    async fn sandboxes(&self, stop: &CancellationToken) {
        let ctx = Context::new(
            &self.client,
            self.caches.clone(),
            self.settings.clone(),
            &self.leadership,
        );
        let reconcile = |sandbox: Arc<Sandbox>, ctx: Arc<Context>| async move {
            let uid = sandbox.uid().unwrap_or_default();
            let result = sandbox::reconcile(sandbox, &ctx).await;
            if result.is_ok() {
                ctx.retries.clear(&uid);
            }
            result
        };
        let retry = |sandbox: Arc<Sandbox>, _: &Error, ctx: Arc<Context>| {
            Action::requeue(ctx.retries.failed(&sandbox.uid().unwrap_or_default()))
        };
        let sweep = sweep::run(ctx.clone(), stop.clone());
        let reconciles = self
            .controller("sandbox", &self.caches.sandboxes, stop)
            .run(sandbox_triggers(&self.caches), ctx, reconcile, retry);
        futures::future::join(reconciles, sweep).await;
    }

    async fn sessions(&self, stop: &CancellationToken) {
        let (client, leadership) = (self.client.clone(), self.leadership.clone());
        let ctx = Arc::new(session::Context {
            caches: self.caches.clone(),
            writer: Writer::new(client, leadership, managers::SESSION),
            agents: self.agents.clone(),
            retries: backoff::RetryDelays::default(),
            aligned: Lock::default(),
        });
        let of_sandboxes = self
            .controller("session", &self.caches.sandboxes, stop)
            .run(
                session_triggers(&self.caches),
                ctx.clone(),
                |sandbox, ctx: Arc<session::Context>| async move {
                    session::reconcile(sandbox, &ctx).await
                },
                |sandbox: Arc<Sandbox>, _: &Error, ctx: Arc<session::Context>| {
                    Action::requeue(ctx.retries.failed(&sandbox.uid().unwrap_or_default()))
                },
            );
        let orphans = self
            .controller("session-orphan", &self.caches.sessions, stop)
            .run(
                orphan_triggers(&self.caches),
                ctx,
                |session, ctx: Arc<session::Context>| async move {
                    session::orphan::reconcile(session, &ctx).await
                },
                |session: Arc<SandboxSession>, _: &Error, ctx: Arc<session::Context>| {
                    Action::requeue(ctx.retries.failed(&session.uid().unwrap_or_default()))
                },
            );
        futures::future::join(of_sandboxes, orphans).await;
    }
}
