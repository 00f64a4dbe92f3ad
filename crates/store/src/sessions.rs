//! The SandboxSession resources of one namespace, for the facade. It creates one for
//! each session that a request opened, and records the state that requests see. In
//! the status it owns `workingDirectory` and `lastActivity`.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::ResourceExt;
use serde_json::json;
use tokio::sync::watch;

use crate::error::refusal;
use hutch_api::{MANAGED_BY, Sandbox, SandboxSession, SandboxSessionSpec, labels};
use hutch_core::interfaces::{ResourceError, SessionRecord, SessionRecords};
use hutch_core::names;
use hutch_core::objects::is_ending;
use hutch_kube::apply::{Error, Writer};
use hutch_kube::watches::Cache;

/// The sessions of one namespace.
pub struct SessionStore {
    cache: Cache<SandboxSession>,
    writer: Writer,
    namespace: String,
}

impl SessionStore {
    /// `cache` must contain the sessions of `namespace`. It may contain others.
    pub const fn new(cache: Cache<SandboxSession>, writer: Writer, namespace: String) -> Self {
        Self {
            cache,
            writer,
            namespace,
        }
    }

    async fn create_new(
        &self,
        sandbox: &Sandbox,
        id: &str,
    ) -> Result<Option<SandboxSession>, Error> {
        let owner = sandbox.metadata.name.clone().unwrap_or_default();
        let name = names::session(&owner, id);
        let spec = SandboxSessionSpec {
            sandbox_name: owner,
            id: id.to_owned(),
            ..SandboxSessionSpec::default()
        };
        let mut session = SandboxSession::new(&name, spec);
        session.metadata.namespace = Some(self.namespace.clone());
        let ours = (labels::MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
        session.labels_mut().extend([ours]);
        session.metadata.owner_references = sandbox.owner_reference().map(|owner| vec![owner]);
        match self.writer.create(&session).await {
            Ok(created) => Ok(Some(created)),
            Err(Error::AlreadyExists(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl SessionRecords for SessionStore {
    fn changes(&self) -> watch::Receiver<u64> {
        self.cache.changes()
    }

    fn find(&self, sandbox: &str, id: &str) -> Option<Arc<SandboxSession>> {
        let all = self.cache.store().state();
        let same = |session: &Arc<SandboxSession>| {
            session.metadata.namespace.as_deref() == Some(&self.namespace)
                && !is_ending(&session.metadata)
                && session.spec.sandbox_name == sandbox
                && session.spec.id == id
        };
        all.into_iter()
            .filter(same)
            .min_by_key(|session| session.age_key())
    }

    fn create<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SandboxSession>, ResourceError>> {
        async move { self.create_new(sandbox, id).await.map_err(refusal) }.boxed()
    }

    fn record<'a>(
        &'a self,
        session: &'a SandboxSession,
        record: &'a SessionRecord,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        async move {
            let status = json!({"workingDirectory": record.cwd, "lastActivity": record.used});
            match self.writer.apply_status(session, &status).await {
                Ok(_) | Err(Error::NotFound(_) | Error::Stale(_)) => Ok(()),
                Err(error) => Err(refusal(error)),
            }
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        session: &'a SandboxSession,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        async move {
            match self.writer.delete(session).await {
                Ok(_) | Err(Error::Stale(_)) => Ok(()),
                Err(error) => Err(refusal(error)),
            }
        }
        .boxed()
    }
}
