//! What was just written and may not have reached the cache yet. Without it a
//! reconcile that comes too soon would take a new pod for a lost one and an ending
//! one for one that runs, or write the same status again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use hutch_api::Sandbox;

/// A cache that lags longer than this is not waited for: a create that repeats
/// then meets the object under its name.
pub const LAG: Duration = Duration::from_secs(5);

/// Objects as they were after they had been created or told to end, by the UID of
/// their sandbox.
pub struct Latest<K>(Mutex<HashMap<String, (Instant, Arc<K>)>>);

impl<K> Default for Latest<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Resource> Latest<K> {
    /// Remembers what was created, or told to end, for the sandbox `uid`.
    pub fn note(&self, uid: &str, object: Arc<K>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid.to_owned(), (Instant::now(), object));
    }

    /// What there is for the sandbox `uid`: what the cache has, or what is
    /// remembered where the cache cannot have been told of it yet.
    pub fn newer(&self, uid: &str, cached: Option<Arc<K>>) -> Option<Arc<K>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, latest)) = all.get(uid) else {
            return cached;
        };
        let known = cached
            .as_ref()
            .filter(|cached| cached.uid() == latest.uid());
        let lags = if ending(latest) {
            // What ends never runs again, however late the cache is.
            known.is_some_and(|cached| !ending(cached))
        } else {
            known.is_none() && at.elapsed() < LAG
        };
        if lags {
            return Some(Arc::clone(latest));
        }
        all.remove(uid);
        cached
    }

    /// Whether something is remembered for the sandbox `uid`.
    pub fn expects(&self, uid: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains_key(uid)
    }
}

fn ending<K: Resource>(object: &Arc<K>) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Sandboxes whose status was just written, by UID.
#[derive(Default)]
pub struct Written(Mutex<HashMap<String, Rewrite>>);

/// The version that a write rested on, and what came of it.
type Rewrite = (Option<String>, Arc<Sandbox>);

impl Written {
    /// Remembers that the status of `seen` was written.
    pub fn note(&self, seen: &Sandbox, mut written: Sandbox) {
        written.metadata.managed_fields = None;
        let uid = seen.uid().unwrap_or_default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid, (seen.resource_version(), Arc::new(written)));
    }

    /// The sandbox as the cache has it, or as it was written if the cache still
    /// has the state before.
    pub fn newer(&self, cached: Arc<Sandbox>) -> Arc<Sandbox> {
        let uid = cached.uid().unwrap_or_default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&uid) {
            Some((before, written)) if *before == cached.resource_version() => Arc::clone(written),
            _ => {
                all.remove(&uid);
                cached
            }
        }
    }
}

/// Specs that the status does not speak of yet, by UID of their sandbox: the
/// generation, and when it was first seen.
#[derive(Default)]
pub struct Fresh(Mutex<HashMap<String, (Option<i64>, Timestamp)>>);

impl Fresh {
    /// Since when the spec is as it is, where the status does not speak of it.
    pub fn since(&self, sandbox: &Sandbox, now: Timestamp) -> Option<Timestamp> {
        let (uid, generation) = (sandbox.uid()?, sandbox.metadata.generation);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

/// What was just written, and what has just changed.
#[derive(Default)]
pub struct Recent {
    /// Specs.
    pub specs: Fresh,
    /// Statuses of sandboxes.
    pub statuses: Written,
    /// Pods.
    pub pods: Latest<Pod>,
    /// Claims.
    pub claims: Latest<PersistentVolumeClaim>,
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
    async fn a_created_pod_stands_in_until_the_cache_has_it_or_should_have() {
        let created = Latest::default();
        created.note("s", pod("new"));
        let uid = |seen: Option<Arc<Pod>>| seen.and_then(|pod| pod.uid());
        assert_eq!(uid(created.newer("s", None)).as_deref(), Some("new"));
        let stale = created.newer("s", Some(pod("old")));
        assert_eq!(uid(stale).as_deref(), Some("new"));
        assert!(created.newer("s", Some(pod("new"))).is_some());
        assert!(created.newer("s", None).is_none());

        created.note("s", pod("new"));
        tokio::time::advance(LAG).await;
        assert!(created.newer("s", None).is_none());
    }

    #[test]
    fn an_ending_pod_stands_in_while_the_cache_has_it_as_it_was() {
        let ended = |uid: &str| {
            let mut pod = Pod::clone(&pod(uid));
            pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
            Some(Arc::new(pod))
        };
        let seen = |cached: Option<Arc<Pod>>| {
            let latest = Latest::default();
            latest.note("s", ended("old").unwrap());
            let seen = latest.newer("s", cached)?;
            Some((seen.uid().unwrap(), ending(&seen)))
        };
        let old = Some(("old".to_owned(), true));
        assert_eq!(seen(Some(pod("old"))), old);
        assert_eq!(seen(ended("old")), old);
        assert_eq!(seen(Some(pod("new"))), Some(("new".to_owned(), false)));
        assert_eq!(seen(None), None);
    }

    #[test]
    fn a_spec_is_fresh_until_the_status_speaks_of_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let sandbox = |generation, observed| {
            let mut sandbox = Sandbox::new("x", hutch_api::SandboxSpec::default());
            sandbox.metadata.uid = Some("u".into());
            sandbox.metadata.generation = Some(generation);
            sandbox.status.get_or_insert_default().observed_generation = Some(observed);
            sandbox
        };
        let fresh = Fresh::default();
        assert_eq!(fresh.since(&sandbox(1, 1), at(1)), None);
        assert_eq!(fresh.since(&sandbox(2, 1), at(2)), Some(at(2)));
        assert_eq!(fresh.since(&sandbox(2, 1), at(3)), Some(at(2)));
        assert_eq!(fresh.since(&sandbox(3, 1), at(4)), Some(at(4)));
        assert_eq!(fresh.since(&sandbox(3, 3), at(5)), None);
        assert!(fresh.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_written_status_stands_in_while_the_cache_has_the_version_before() {
        let version = |version: &str| {
            let mut sandbox = Sandbox::new("x", hutch_api::SandboxSpec::default());
            sandbox.metadata.uid = Some("u".into());
            sandbox.metadata.resource_version = Some(version.into());
            sandbox
        };
        let written = Written::default();
        let newer = |cached| written.newer(Arc::new(version(cached))).resource_version();
        written.note(&version("1"), version("2"));
        assert_eq!(newer("1").as_deref(), Some("2"));
        assert_eq!(newer("3").as_deref(), Some("3"));
        assert_eq!(newer("1").as_deref(), Some("1"));
    }
}
