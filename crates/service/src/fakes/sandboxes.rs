//! Sandboxes of an API server, and a cache that follows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;

use hutch_api::{Bucket, Lifecycle, Phase, Sandbox, SandboxSpec};
use hutch_core::conditions::{READY, condition};
use hutch_core::deadlines;
use hutch_core::interfaces::{NewSandbox, PodRef, ResourceError, Sandboxes};
use hutch_core::sync::Lock;

pub struct FakeSandboxes {
    state: Lock<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// The objects of the API server.
    all: BTreeMap<String, Sandbox>,
    cache: BTreeMap<String, Arc<Sandbox>>,
    /// True if the cache does not follow the API server.
    is_behind: bool,
    /// True if a deleted sandbox stays until `remove`.
    keeps_deleted: bool,
    /// The beginning of the writes that fail, and their error.
    fault: Option<(&'static str, ResourceError)>,
    creation_delay: Duration,
    /// The name of a sandbox that does not decode.
    unreadable: Option<String>,
    uids: u32,
    log: Vec<String>,
    activity: Vec<(String, Timestamp, Option<String>)>,
}

impl State {
    /// Logs a write. Returns the error with which it fails.
    fn log_write(&mut self, text: String) -> Option<ResourceError> {
        let fault = self.fault.as_ref();
        let error = fault.filter(|(writes, _)| text.starts_with(writes));
        let error = error.map(|(_, error)| error.clone());
        self.log.push(text);
        error
    }
}

impl Default for FakeSandboxes {
    fn default() -> Self {
        Self {
            state: Lock::default(),
            changes: watch::Sender::new(1),
        }
    }
}

impl FakeSandboxes {
    /// Adds a sandbox without status, as one made with `kubectl`.
    pub fn put(&self, name: &str) {
        self.insert(name, SandboxSpec::default());
    }

    /// Adds a sandbox that does not decode.
    pub fn put_unreadable(&self, name: &str) {
        self.state.lock().unreadable = Some(name.to_owned());
    }

    /// Adds a sandbox that answers.
    pub fn put_ready(&self, name: &str) {
        self.put(name);
        self.edit(name, run);
    }

    /// Adds a sandbox with an idle timeout that has fallen asleep at that time.
    pub fn put_asleep(&self, name: &str, slept: Timestamp) {
        self.put(name);
        self.edit(name, |sandbox| {
            sandbox.spec.lifecycle.idle_timeout = Some("10m".to_owned());
            let status = sandbox.status.get_or_insert_default();
            status.phase = Phase::Suspended;
            status.slept_at = Some(Time(slept));
        });
    }

    /// Changes a sandbox.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Sandbox)) {
        change(self.state.lock().all.get_mut(name).unwrap());
        self.changed();
    }

    /// Sets the Ready condition to false, for that reason.
    pub fn set_not_ready(&self, name: &str, phase: Phase, reason: &str, message: &str) {
        self.edit(name, |sandbox| {
            let status = sandbox.status.get_or_insert_default();
            status.phase = phase;
            let now = Timestamp::now();
            status.conditions = vec![condition(READY, Some(false), reason, message, None, now)];
        });
    }

    pub fn remove(&self, name: &str) {
        self.state.lock().all.remove(name);
        self.changed();
    }

    /// Lets the cache no longer follow the API server.
    pub fn hold_cache(&self) {
        self.state.lock().is_behind = true;
    }

    /// Lets the cache follow the API server again.
    pub fn release_cache(&self) {
        self.state.lock().is_behind = false;
        self.changed();
    }

    /// Reports a change of the cache that is none of these sandboxes.
    pub fn report_other_change(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    /// Lets every creation take that long. It still fails or succeeds by the faults at its
    /// begin.
    pub fn set_creation_delay(&self, delay: Duration) {
        self.state.lock().creation_delay = delay;
    }

    /// Lets deleted sandboxes stay until [`Self::remove`].
    pub fn keep_deleted(&self) {
        self.state.lock().keeps_deleted = true;
    }

    /// Lets every write fail from now on.
    pub fn fail(&self, error: ResourceError) {
        self.fail_only("", error);
    }

    /// Lets every write fail whose text in [`Self::writes`] begins like this.
    pub fn fail_only(&self, writes: &'static str, error: ResourceError) {
        self.state.lock().fault = Some((writes, error));
    }

    /// Lets writes succeed again.
    pub fn repair(&self) {
        self.state.lock().fault = None;
    }

    /// The writes so far, such as `create NAME`.
    pub fn writes(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }

    /// The recorded activity: name, time and trace.
    pub fn activity(&self) -> Vec<(String, Timestamp, Option<String>)> {
        self.state.lock().activity.clone()
    }

    /// The sandbox that the API server has.
    pub fn stored(&self, name: &str) -> Option<Sandbox> {
        self.state.lock().all.get(name).cloned()
    }

    /// Starts a controller: a sandbox that should run answers after `delay`.
    pub fn start_controller(self: &Arc<Self>, delay: Duration) {
        let this = self.clone();
        tokio::spawn(async move {
            let mut changes = this.changes.subscribe();
            loop {
                let all: Vec<Sandbox> = this.state.lock().all.values().cloned().collect();
                for sandbox in all.iter().filter(|it| should_start(it)) {
                    tokio::time::sleep(delay).await;
                    this.edit(sandbox.metadata.name.as_ref().unwrap(), run);
                }
                changes.changed().await.unwrap();
            }
        });
    }

    fn insert(&self, name: &str, spec: SandboxSpec) -> Sandbox {
        let mut sandbox = Sandbox::new(name, spec);
        {
            let mut state = self.state.lock();
            state.uids += 1;
            let meta = &mut sandbox.metadata;
            meta.namespace = Some("box".to_owned());
            meta.uid = Some(format!("00000000-0000-0000-0000-{:012}", state.uids));
            meta.creation_timestamp = Timestamp::from_second(state.uids.into()).ok().map(Time);
            meta.generation = Some(1);
            state.all.insert(name.to_owned(), sandbox.clone());
        }
        self.changed();
        sandbox
    }

    fn create_or_read(&self, new: &NewSandbox) -> Sandbox {
        if let Some(there) = self.stored(&new.name) {
            return there;
        }
        self.insert(&new.name, new.spec.clone());
        self.edit(&new.name, |sandbox| {
            let notes = new.notes.iter();
            let notes = notes.map(|(key, value)| ((*key).to_owned(), value.clone()));
            sandbox.metadata.annotations = Some(notes.collect());
        });
        self.stored(&new.name).unwrap()
    }

    /// Logs a write and makes it, unless a fault is switched on. `change` returns false
    /// if it does nothing. So does a sandbox that does not exist.
    fn write(
        &self,
        text: String,
        name: &str,
        change: impl FnOnce(&mut Sandbox) -> bool,
    ) -> BoxFuture<'_, Result<bool, ResourceError>> {
        let mut state = self.state.lock();
        let done = match state.log_write(text) {
            Some(error) => Err(error),
            None => Ok(state.all.get_mut(name).is_some_and(change)),
        };
        drop(state);
        self.changed();
        ready(done).boxed()
    }

    fn changed(&self) {
        let mut state = self.state.lock();
        if !state.is_behind {
            let all = state.all.iter();
            state.cache = all
                .map(|(name, it)| (name.clone(), Arc::new(it.clone())))
                .collect();
            drop(state);
            self.changes.send_modify(|version| *version += 1);
        }
    }
}

/// The pod of a sandbox that answers.
pub fn pod_of(sandboxes: &FakeSandboxes, name: &str) -> PodRef {
    PodRef::ready(&sandboxes.stored(name).unwrap()).unwrap()
}

/// Lets a sandbox answer.
fn run(sandbox: &mut Sandbox) {
    let name = sandbox.metadata.name.clone();
    let generation = sandbox.metadata.generation;
    let status = sandbox.status.get_or_insert_default();
    status.phase = Phase::Ready;
    status.observed_generation = generation;
    status.pod_uid = name.as_deref().map(|name| format!("pod-{name}"));
    status.pod_name = name;
    status.started_at = Some(Time(Timestamp::now()));
    let now = Timestamp::now();
    status.conditions = vec![condition(READY, Some(true), "Ready", "", None, now)];
}

fn should_start(sandbox: &Sandbox) -> bool {
    let answers = |sandbox: &Sandbox| {
        let status = sandbox.status.as_ref();
        status.is_some_and(|status| status.phase.answers())
    };
    sandbox.metadata.deletion_timestamp.is_none()
        && !sandbox.spec.suspended
        && !deadlines::is_asleep(sandbox)
        && !answers(sandbox)
}

impl Sandboxes for FakeSandboxes {
    fn get(&self, name: &str) -> Option<Arc<Sandbox>> {
        self.state.lock().cache.get(name).cloned()
    }

    fn is_unreadable(&self, name: &str) -> bool {
        self.state.lock().unreadable.as_deref() == Some(name)
    }

    fn fetch<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>> {
        if self.is_unreadable(name) {
            let error = ResourceError::Unavailable("it does not decode".to_owned());
            return ready(Err(error)).boxed();
        }
        ready(Ok(self.stored(name))).boxed()
    }

    fn fetch_by_uid<'a>(
        &'a self,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Sandbox>, ResourceError>> {
        let state = self.state.lock();
        let mut all = state.all.values();
        let found = all.find(|it| it.metadata.uid.as_deref() == Some(uid));
        ready(Ok(found.cloned())).boxed()
    }

    fn all(&self) -> Vec<Arc<Sandbox>> {
        self.state.lock().cache.values().cloned().collect()
    }

    fn awake(&self) -> usize {
        let all = self.all();
        all.iter().filter(|it| PodRef::ready(it).is_some()).count()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn create(&self, new: NewSandbox) -> BoxFuture<'_, Result<Sandbox, ResourceError>> {
        let mut state = self.state.lock();
        let fault = state.log_write(format!("create {}", new.name));
        let delay = state.creation_delay;
        drop(state);
        async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            match fault {
                Some(error) => Err(error),
                None => Ok(self.create_or_read(&new)),
            }
        }
        .boxed()
    }

    fn set_lifecycle<'a>(
        &'a self,
        name: &'a str,
        lifecycle: &'a Lifecycle,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        self.write(format!("set lifecycle {name}"), name, |sandbox| {
            sandbox.spec.lifecycle = lifecycle.clone();
            true
        })
    }

    fn add_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a Bucket,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        self.write(format!("add bucket {name}"), name, |sandbox| {
            let buckets = &mut sandbox.spec.buckets;
            let is_new = buckets.iter().all(|other| other.name != bucket.name);
            if is_new {
                buckets.push(bucket.clone());
            }
            is_new
        })
    }

    fn remove_bucket<'a>(
        &'a self,
        name: &'a str,
        bucket: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        self.write(format!("remove bucket {name}"), name, |sandbox| {
            let before = sandbox.spec.buckets.len();
            sandbox.spec.buckets.retain(|other| other.name != bucket);
            sandbox.spec.buckets.len() < before
        })
    }

    fn record_activity<'a>(
        &'a self,
        name: &'a str,
        at: Timestamp,
        trace: Option<String>,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        let activity = (name.to_owned(), at, trace);
        self.state.lock().activity.push(activity);
        self.write(format!("record activity {name}"), name, |sandbox| {
            let status = sandbox.status.get_or_insert_default();
            status.last_activity = Some(Time(at));
            true
        })
    }

    fn delete<'a>(
        &'a self,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<bool, ResourceError>> {
        let keeps_deleted = self.state.lock().keeps_deleted;
        let mut deleted = false;
        let done = self.write(format!("delete {name}"), name, |sandbox| {
            deleted = sandbox.metadata.uid.as_deref() == Some(uid);
            if deleted {
                sandbox.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
            }
            deleted
        });
        if deleted && !keeps_deleted {
            self.remove(name);
        }
        done
    }
}
