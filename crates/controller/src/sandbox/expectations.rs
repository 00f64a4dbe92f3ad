//! The controller's own recent writes, which the cache may not show yet. Without
//! them a reconcile that starts too early would treat a new pod as lost and an
//! ending pod as running, or would write the same status twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use hutch_api::Sandbox;
use hutch_core::objects::is_ending;
use hutch_core::sync::Lock;

/// The longest time to wait for a cache that lags. A repeated create is safe after
/// that: it fails with `AlreadyExists`, because the object has its name.
pub const MAX_CACHE_LAG: Duration = Duration::from_secs(5);

/// Objects in the state that a create or a delete returned, by UID of the sandbox.
pub struct ExpectedObjects<K>(Lock<HashMap<String, (Instant, Arc<K>)>>);

impl<K> Default for ExpectedObjects<K> {
    fn default() -> Self {
        Self(Lock::default())
    }
}

impl<K: Resource> ExpectedObjects<K> {
    /// Records an object that was created or deleted for the sandbox `uid`.
    pub fn record(&self, uid: &str, object: Arc<K>) {
        let mut all = self.0.lock();
        all.insert(uid.to_owned(), (Instant::now(), object));
    }

    /// The newest known object of the sandbox `uid`: the recorded one while the cache
    /// cannot show it yet, otherwise the cached one.
    pub fn latest(&self, uid: &str, cached: Option<Arc<K>>) -> Option<Arc<K>> {
        let mut all = self.0.lock();
        let Some((at, latest)) = all.get(uid) else {
            return cached;
        };
        let same = cached
            .as_ref()
            .filter(|cached| cached.uid() == latest.uid());
        let lags = if is_ending(latest.meta()) {
            // An ending object never runs again, however long the cache lags.
            same.is_some_and(|cached| !is_ending(cached.meta()))
        } else {
            same.is_none() && at.elapsed() < MAX_CACHE_LAG
        };
        if lags {
            return Some(Arc::clone(latest));
        }
        all.remove(uid);
        cached
    }

    /// True if the cache does not show a recorded object of the sandbox `uid` yet.
    pub fn is_pending(&self, uid: &str) -> bool {
        let all = self.0.lock();
        all.contains_key(uid)
    }
}

/// Sandboxes as the last write of their status returned them, by UID.
#[derive(Default)]
pub struct ExpectedStatuses(Lock<HashMap<String, StatusWrite>>);

/// The resource version before the write, and the sandbox after it.
type StatusWrite = (Option<String>, Arc<Sandbox>);

impl ExpectedStatuses {
    /// Records that the status of `before` was written.
    pub fn record(&self, before: &Sandbox, mut written: Sandbox) {
        written.metadata.managed_fields = None;
        let uid = before.uid().unwrap_or_default();
        let mut all = self.0.lock();
        all.insert(uid, (before.resource_version(), Arc::new(written)));
    }

    /// The written sandbox if the cache still has the version before the write,
    /// otherwise the cached one.
    pub fn latest(&self, cached: Arc<Sandbox>) -> Arc<Sandbox> {
        let uid = cached.uid().unwrap_or_default();
        let mut all = self.0.lock();
        match all.get(&uid) {
            Some((before, written)) if *before == cached.resource_version() => Arc::clone(written),
            _ => {
                all.remove(&uid);
                cached
            }
        }
    }
}

/// Specs that are newer than `status.observedGeneration`, by UID of the sandbox: the
/// generation, and the time at which this controller first saw it.
#[derive(Default)]
pub struct UnreportedSpecs(Lock<HashMap<String, (Option<i64>, Timestamp)>>);

impl UnreportedSpecs {
    /// The time of the spec's last change; `None` if the status covers that change.
    pub fn since(&self, sandbox: &Sandbox, now: Timestamp) -> Option<Timestamp> {
        let (uid, generation) = (sandbox.uid()?, sandbox.metadata.generation);
        let mut all = self.0.lock();
        let status = sandbox.status.as_ref();
        if status.and_then(|status| status.observed_generation) == generation {
            all.remove(&uid);
            return None;
        }
        match all.get(&uid) {
            Some((same, since)) if *same == generation => Some(*since),
            _ => {
                all.insert(uid, (generation, now));
                Some(now)
            }
        }
    }
}

/// The recent writes of one leader, and the specs that it has not reported on yet.
#[derive(Default)]
pub struct Expectations {
    pub specs: UnreportedSpecs,
    pub statuses: ExpectedStatuses,
    pub pods: ExpectedObjects<Pod>,
    pub claims: ExpectedObjects<PersistentVolumeClaim>,
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn pod(uid: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.into());
        Arc::new(pod)
    }

    #[tokio::test(start_paused = true)]
    async fn a_created_pod_is_used_until_the_cache_has_it_or_the_maximum_lag_has_passed() {
        let created = ExpectedObjects::default();
        created.record("s", pod("new"));
        let uid = |seen: Option<Arc<Pod>>| seen.and_then(|pod| pod.uid());
        assert_eq!(uid(created.latest("s", None)).as_deref(), Some("new"));
        let stale = created.latest("s", Some(pod("old")));
        assert_eq!(uid(stale).as_deref(), Some("new"));
        assert!(created.latest("s", Some(pod("new"))).is_some());
        assert!(created.latest("s", None).is_none());

        created.record("s", pod("new"));
        tokio::time::advance(MAX_CACHE_LAG).await;
        assert!(created.latest("s", None).is_none());
    }

    #[test]
    fn an_ending_pod_is_used_while_the_cache_still_shows_it_running() {
        let ended = |uid: &str| {
            let mut pod = Pod::clone(&pod(uid));
            pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
            Some(Arc::new(pod))
        };
        let seen = |cached: Option<Arc<Pod>>| {
            let latest = ExpectedObjects::default();
            latest.record("s", ended("old").unwrap());
            let seen = latest.latest("s", cached)?;
            Some((seen.uid().unwrap(), is_ending(seen.meta())))
        };
        let old = Some(("old".to_owned(), true));
        assert_eq!(seen(Some(pod("old"))), old);
        assert_eq!(seen(ended("old")), old);
        assert_eq!(seen(Some(pod("new"))), Some(("new".to_owned(), false)));
        assert_eq!(seen(None), None);
    }

    #[test]
    fn a_spec_is_unreported_until_the_status_has_its_generation() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let sandbox = |generation, observed| {
            let mut sandbox = Sandbox::new("x", hutch_api::SandboxSpec::default());
            sandbox.metadata.uid = Some("u".into());
            sandbox.metadata.generation = Some(generation);
            sandbox.status.get_or_insert_default().observed_generation = Some(observed);
            sandbox
        };
        let specs = UnreportedSpecs::default();
        assert_eq!(specs.since(&sandbox(1, 1), at(1)), None);
        assert_eq!(specs.since(&sandbox(2, 1), at(2)), Some(at(2)));
        assert_eq!(specs.since(&sandbox(2, 1), at(3)), Some(at(2)));
        assert_eq!(specs.since(&sandbox(3, 1), at(4)), Some(at(4)));
        assert_eq!(specs.since(&sandbox(3, 3), at(5)), None);
        assert!(specs.0.lock().is_empty());
    }

    #[test]
    fn a_written_status_is_used_while_the_cache_has_the_version_before_it() {
        let version = |version: &str| {
            let mut sandbox = Sandbox::new("x", hutch_api::SandboxSpec::default());
            sandbox.metadata.uid = Some("u".into());
            sandbox.metadata.resource_version = Some(version.into());
            sandbox
        };
        let written = ExpectedStatuses::default();
        let latest = |cached| written.latest(Arc::new(version(cached))).resource_version();
        written.record(&version("1"), version("2"));
        assert_eq!(latest("1").as_deref(), Some("2"));
        assert_eq!(latest("3").as_deref(), Some("3"));
        assert_eq!(latest("1").as_deref(), Some("1"));
    }
}
