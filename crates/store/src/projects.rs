//! The Sandboxes of projects, for the projector. It reads them from the cache and
//! writes with its own field manager. In the status it owns the condition
//! `DatabaseSynced` and `projectId`.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde_json::json;
use tokio::sync::watch;

use crate::error::refusal;
use hutch_api::{Sandbox, managers};
use hutch_core::interfaces::{ProjectReport, ProjectSandboxes, ResourceError};
use hutch_core::names::is_name;
use hutch_core::objects::{has_ended, is_ending};
use hutch_core::reasons::Reason;
use hutch_kube::apply::{Error, Writer};
use hutch_kube::events::Events;
use hutch_kube::lease::Leadership;
use hutch_kube::watches::Cache;

/// The sandboxes of one namespace, for the projector.
pub struct ProjectSandboxStore {
    cache: Cache<Sandbox>,
    writer: Writer,
    events: Events,
    leadership: Leadership,
    namespace: String,
}

impl ProjectSandboxStore {
    /// `cache` must contain the sandboxes of `namespace`. It may contain others.
    pub fn new(
        client: &Client,
        cache: Cache<Sandbox>,
        leadership: Leadership,
        namespace: String,
    ) -> Self {
        Self {
            writer: Writer::new(client.clone(), leadership.clone(), managers::PROJECTOR),
            events: Events::new(client.clone(), leadership.clone(), managers::PROJECTOR),
            cache,
            leadership,
            namespace,
        }
    }

    async fn is_alive(&self, name: &str) -> Result<bool, Error> {
        if !is_name(name) {
            return Ok(false);
        }
        let pod: Option<Pod> = self.writer.read(&self.namespace, name).await?;
        Ok(pod.is_some_and(|pod| !is_ending(&pod.metadata) && !has_ended(&pod)))
    }

    async fn apply_report(
        &self,
        sandbox: &Sandbox,
        report: Option<&ProjectReport>,
    ) -> Result<(), Error> {
        let status = report.map_or_else(
            || json!({}),
            |report| json!({"projectId": report.project, "conditions": [report.condition]}),
        );
        match self.writer.apply_status(sandbox, &status).await {
            Ok(_) | Err(Error::NotFound(_) | Error::Stale(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl ProjectSandboxes for ProjectSandboxStore {
    fn may_write(&self) -> Option<Duration> {
        let left = self.leadership.check().ok()?;
        self.cache.synced().then_some(left)
    }

    fn all(&self) -> Vec<Arc<Sandbox>> {
        let all = self.cache.store().state().into_iter();
        let here = |it: &Arc<Sandbox>| it.metadata.namespace.as_ref() == Some(&self.namespace);
        all.filter(here).collect()
    }

    fn is_unreadable(&self, name: &str) -> bool {
        self.cache.is_unreadable(&self.namespace, name)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.cache.changes()
    }

    fn pod_lives<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>> {
        async move { self.is_alive(name).await.map_err(refusal) }.boxed()
    }

    fn report<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        report: Option<&'a ProjectReport>,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        async move { self.apply_report(sandbox, report).await.map_err(refusal) }.boxed()
    }

    fn warn<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        reason: Reason,
        note: &'a str,
    ) -> BoxFuture<'a, ()> {
        self.events.warning(sandbox, reason, note).boxed()
    }
}
