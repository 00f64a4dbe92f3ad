//! The other resources: attached pods, SandboxSessions, Secrets, Services and Ingresses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::watch;

use hutch_api::{MANAGED_BY, Sandbox, SandboxSession, SandboxSessionSpec, SecretRef, labels};
use hutch_core::interfaces::{
    AttachedPod, AttachedPods, Exposures, PodRef, ResourceError, S3Secrets, SessionRecord,
    SessionRecords,
};
use hutch_core::s3::S3Credentials;
use hutch_core::sync::Lock;

pub struct FakeAttachedPods {
    /// The pods that the cache has.
    pods: Lock<BTreeMap<String, AttachedPod>>,
    /// The names that only the API server has.
    in_cluster: Lock<BTreeSet<String>>,
    changes: watch::Sender<u64>,
}

impl Default for FakeAttachedPods {
    fn default() -> Self {
        Self {
            pods: Lock::default(),
            in_cluster: Lock::default(),
            changes: watch::Sender::new(1),
        }
    }
}

impl FakeAttachedPods {
    pub fn put_running(&self, name: &str) {
        let pod = PodRef {
            namespace: "box".to_owned(),
            name: name.to_owned(),
            uid: format!("pod-{name}"),
            container: "main".to_owned(),
            attached: true,
        };
        self.put(name, AttachedPod::Runs(pod));
    }

    pub fn put_waiting(&self, name: &str, why: &str) {
        self.put(name, AttachedPod::Waits(why.to_owned()));
    }

    pub fn remove(&self, name: &str) {
        self.pods.lock().remove(name);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Makes the cache one that has never been filled, until the next change.
    pub fn set_unfilled(&self) {
        self.changes.send_replace(0);
    }

    /// Adds a pod that the cache does not show yet.
    pub fn put_in_cluster(&self, name: &str) {
        self.in_cluster.lock().insert(name.to_owned());
    }

    fn put(&self, name: &str, pod: AttachedPod) {
        self.pods.lock().insert(name.to_owned(), pod);
        self.changes.send_modify(|version| *version += 1);
    }
}

impl AttachedPods for FakeAttachedPods {
    fn get(&self, name: &str) -> Option<AttachedPod> {
        self.pods.lock().get(name).cloned()
    }

    fn exists<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>> {
        let exists = self.in_cluster.lock().contains(name) || self.get(name).is_some();
        ready(Ok(exists)).boxed()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

pub struct FakeSessionRecords {
    sessions: Lock<Vec<SandboxSession>>,
    writes: Lock<Vec<String>>,
    fault: Lock<Option<ResourceError>>,
    changes: watch::Sender<u64>,
}

impl Default for FakeSessionRecords {
    fn default() -> Self {
        Self {
            sessions: Lock::default(),
            writes: Lock::default(),
            fault: Lock::default(),
            changes: watch::Sender::new(1),
        }
    }
}

impl FakeSessionRecords {
    /// Adds a resource that a user has applied.
    pub fn apply(&self, sandbox: &str, id: &str, cwd: Option<&str>) {
        let mut session = resource(sandbox, id);
        session.spec.cwd = cwd.map(str::to_owned);
        self.sessions.lock().push(session);
    }

    /// Changes the resource of a session.
    pub fn edit(&self, id: &str, change: impl FnOnce(&mut SandboxSession)) {
        let mut all = self.sessions.lock();
        change(all.iter_mut().find(|it| it.spec.id == id).unwrap());
    }

    /// The IDs of the sessions that have a resource.
    pub fn ids(&self) -> Vec<String> {
        let all = self.sessions.lock();
        all.iter().map(|it| it.spec.id.clone()).collect()
    }

    /// The writes so far, such as `record ID CWD`.
    pub fn writes(&self) -> Vec<String> {
        self.writes.lock().clone()
    }

    pub fn fail(&self, fault: Option<ResourceError>) {
        *self.fault.lock() = fault;
    }

    fn write<T: Send + 'static>(
        &self,
        text: String,
        change: impl FnOnce(&mut Vec<SandboxSession>) -> T,
    ) -> BoxFuture<'static, Result<T, ResourceError>> {
        self.writes.lock().push(text);
        let done = match self.fault.lock().clone() {
            Some(fault) => Err(fault),
            None => Ok(change(&mut self.sessions.lock())),
        };
        ready(done).boxed()
    }
}

fn resource(sandbox: &str, id: &str) -> SandboxSession {
    let spec = SandboxSessionSpec {
        sandbox_name: sandbox.to_owned(),
        id: id.to_owned(),
        ..SandboxSessionSpec::default()
    };
    let mut session = SandboxSession::new(id, spec);
    session.metadata.uid = Some(format!("uid-{id}"));
    session
}

impl SessionRecords for FakeSessionRecords {
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn find(&self, sandbox: &str, id: &str) -> Option<Arc<SandboxSession>> {
        let all = self.sessions.lock();
        let mut all = all.iter();
        let found = all.find(|it| it.spec.sandbox_name == sandbox && it.spec.id == id);
        found.cloned().map(Arc::new)
    }

    fn create<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SandboxSession>, ResourceError>> {
        let name = sandbox.metadata.name.as_deref().unwrap();
        let mut session = resource(name, id);
        let label = (labels::MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
        session.metadata.labels = Some([label].into());
        self.write(format!("create {id}"), |all| {
            let is_new = all.iter().all(|it| it.spec.id != session.spec.id);
            is_new.then(|| {
                all.push(session.clone());
                session
            })
        })
    }

    fn record<'a>(
        &'a self,
        session: &'a SandboxSession,
        record: &'a SessionRecord,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        self.write(format!("record {} {}", session.spec.id, record.cwd), |_| ())
    }

    fn delete<'a>(
        &'a self,
        session: &'a SandboxSession,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        let id = &session.spec.id;
        self.write(format!("delete {id}"), |all| {
            all.retain(|it| it.spec.id != *id);
        })
    }
}

#[derive(Default)]
pub struct FakeSecrets {
    names: Lock<BTreeSet<String>>,
    made: Lock<u32>,
}

impl FakeSecrets {
    /// The names of the Secrets that exist.
    pub fn names(&self) -> Vec<String> {
        self.names.lock().iter().cloned().collect()
    }

    /// The number of Secrets that were ever created.
    pub fn made(&self) -> u32 {
        *self.made.lock()
    }
}

impl S3Secrets for FakeSecrets {
    fn create<'a>(
        &'a self,
        _: &'a Sandbox,
        bucket: &'a str,
        _: &'a S3Credentials,
    ) -> BoxFuture<'a, Result<SecretRef, ResourceError>> {
        let mut made = self.made.lock();
        *made += 1;
        let name = format!("{bucket}-{made}");
        self.names.lock().insert(name.clone());
        let namespace = Some("hutch".to_owned());
        ready(Ok(SecretRef { name, namespace })).boxed()
    }

    fn delete<'a>(
        &'a self,
        _: &'a Sandbox,
        secret: &'a SecretRef,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        self.names.lock().remove(&secret.name);
        ready(Ok(())).boxed()
    }
}

#[derive(Default)]
pub struct FakeExposures {
    /// The UIDs of the sandboxes behind a host.
    behind: Lock<BTreeMap<String, Vec<String>>>,
    fault: Lock<Option<ResourceError>>,
    exposed: Lock<Vec<Vec<u16>>>,
    routes: Lock<Vec<(String, u16)>>,
}

impl FakeExposures {
    pub fn put_host(&self, host: &str, uid: &str) {
        let mut behind = self.behind.lock();
        let uids = behind.entry(host.to_owned()).or_default();
        uids.push(uid.to_owned());
    }

    pub fn fail(&self, fault: ResourceError) {
        *self.fault.lock() = Some(fault);
    }

    /// The lists of ports that were exposed.
    pub fn exposed(&self) -> Vec<Vec<u16>> {
        self.exposed.lock().clone()
    }

    /// The hosts and ports that were routed.
    pub fn routes(&self) -> Vec<(String, u16)> {
        self.routes.lock().clone()
    }
}

impl Exposures for FakeExposures {
    fn expose<'a>(
        &'a self,
        _: &'a Sandbox,
        ports: &'a [u16],
    ) -> BoxFuture<'a, Result<Vec<u16>, ResourceError>> {
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.exposed.lock().push(ports.to_vec());
            let outside = ports.iter().map(|port| port + 20_000).collect();
            self.fault.lock().clone().map_or(Ok(outside), Err)
        }
        .boxed()
    }

    fn sandboxes_behind<'a>(
        &'a self,
        _: &'a str,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, ResourceError>> {
        let behind = self.behind.lock().get(host).cloned();
        ready(Ok(behind.unwrap_or_default())).boxed()
    }

    fn route<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        self.put_host(host, sandbox.metadata.uid.as_deref().unwrap());
        self.routes.lock().push((host.to_owned(), port));
        ready(Ok(())).boxed()
    }
}
