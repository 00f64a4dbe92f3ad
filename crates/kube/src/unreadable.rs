//! Objects that do not decode, such as a status with a value that only a newer Hutch knows.
//! One of them must not stop the watch of its kind, and must not look like a deleted one.

use std::collections::HashSet;

use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use tracing::warn;

use super::guarded::Guarded;
use hutch_core::sync::Lock;

/// Namespace (empty for a cluster-wide kind) and name.
type Key = (String, String);

/// The unreadable objects of one watch.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Lock<Keys>);

#[derive(Debug, Default)]
struct Keys {
    now: HashSet<Key>,
    /// Those of a listing that has begun. They replace `now` at its end.
    listing: HashSet<Key>,
}

impl Unreadable {
    pub fn contains(&self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().now.contains(&key)
    }

    /// The event with the decoded object. For an object that does not decode it is the event
    /// with the version that `store` has, or nothing if there is none.
    pub fn filter<K>(&self, event: Event<Guarded<K>>, store: &Store<K>) -> Option<Event<K>>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        match event {
            Event::Init => {
                self.0.lock().listing.clear();
                Some(Event::Init)
            }
            Event::InitApply(Guarded(Ok(object))) => Some(Event::InitApply(object)),
            Event::InitApply(Guarded(Err(invalid))) => {
                let key = report::<K>(&invalid);
                let before = last_version(store, &key);
                self.0.lock().listing.insert(key);
                // An earlier object of the same name has ended while the watch was down.
                let before = before.filter(|object| object.meta().uid == invalid.metadata.uid);
                before.map(Event::InitApply)
            }
            Event::InitDone => {
                let mut keys = self.0.lock();
                keys.now = std::mem::take(&mut keys.listing);
                Some(Event::InitDone)
            }
            Event::Apply(Guarded(Ok(object))) => {
                self.0.lock().now.remove(&key_of(object.meta()));
                Some(Event::Apply(object))
            }
            Event::Apply(Guarded(Err(invalid))) => {
                let key = report::<K>(&invalid);
                self.0.lock().now.insert(key);
                None
            }
            Event::Delete(Guarded(deleted)) => {
                let key = key_of(match &deleted {
                    Ok(object) => object.meta(),
                    Err(invalid) => &invalid.metadata,
                });
                self.0.lock().now.remove(&key);
                let object = deleted.ok().or_else(|| last_version(store, &key));
                object.map(Event::Delete)
            }
        }
    }
}

fn report<K: Resource<DynamicType = ()>>(invalid: &InvalidObject) -> Key {
    let key = key_of(&invalid.metadata);
    let (namespace, name, error) = (&key.0, &key.1, &invalid.error);
    let kind = K::kind(&());
    warn!(
        %kind, namespace, name, %error,
        "an object does not decode and is left alone; has a newer Hutch written it?"
    );
    key
}

fn key_of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Key {
    let namespace = meta.namespace.clone().unwrap_or_default();
    (namespace, meta.name.clone().unwrap_or_default())
}

fn last_version<K>(store: &Store<K>, (namespace, name): &Key) -> Option<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut reference = ObjectRef::new(name);
    if !namespace.is_empty() {
        reference = reference.within(namespace);
    }
    store.get(&reference).map(|object| object.as_ref().clone())
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use kube::runtime::reflector::store;
    use serde_json::{Value, json};

    use super::*;
    use hutch_api::Sandbox;

    fn sandbox(name: &str, uid: &str, phase: &str) -> Value {
        json!({
            "apiVersion": "hutch.dev/v1alpha1",
            "kind": "Sandbox",
            "metadata": { "namespace": "ns", "name": name, "uid": uid },
            "spec": {},
            "status": { "phase": phase },
        })
    }

    fn guard(name: &str, phase: &str) -> Guarded<Sandbox> {
        serde_json::from_value(sandbox(name, "1", phase)).unwrap()
    }

    struct Watch {
        store: Store<Sandbox>,
        writer: kube::runtime::reflector::store::Writer<Sandbox>,
        unreadable: Unreadable,
    }

    impl Watch {
        fn new() -> Self {
            let (store, writer) = store();
            Self {
                store,
                writer,
                unreadable: Unreadable::default(),
            }
        }

        fn take(&mut self, event: Event<Guarded<Sandbox>>) {
            if let Some(event) = self.unreadable.filter(event, &self.store) {
                self.writer.apply_watcher_event(&event);
            }
        }

        fn list(&mut self, all: &[(&str, &str)]) {
            self.take(Event::Init);
            for (name, phase) in all {
                self.take(Event::InitApply(guard(name, phase)));
            }
            self.take(Event::InitDone);
        }

        /// Names and phases of the cached objects.
        fn cached(&self) -> Vec<String> {
            let all = self.store.state();
            let mut all: Vec<_> = all
                .iter()
                .map(|sandbox| {
                    let status = sandbox.status.clone().unwrap_or_default();
                    format!("{} {:?}", sandbox.name_any(), status.phase)
                })
                .collect();
            all.sort();
            all
        }
    }

    #[test]
    fn an_object_that_does_not_decode_hides_no_other_from_the_first_listing() {
        let mut watch = Watch::new();
        watch.list(&[("a", "Ready"), ("b", "FromTheFuture"), ("c", "Ready")]);
        assert_eq!(watch.cached(), ["a Ready", "c Ready"]);
        assert!(watch.unreadable.contains("ns", "b"));
        assert!(!watch.unreadable.contains("ns", "a"));
    }

    #[test]
    fn the_last_version_that_decoded_stays_until_the_object_is_deleted() {
        let mut watch = Watch::new();
        watch.list(&[("a", "Ready")]);
        watch.take(Event::Apply(guard("a", "FromTheFuture")));
        assert_eq!(watch.cached(), ["a Ready"]);
        assert!(watch.unreadable.contains("ns", "a"));
        watch.list(&[("a", "FromTheFuture")]);
        assert_eq!(watch.cached(), ["a Ready"]);
        watch.take(Event::Delete(guard("a", "FromTheFuture")));
        assert!(watch.cached().is_empty() && !watch.unreadable.contains("ns", "a"));
    }

    #[test]
    fn a_former_object_of_the_same_name_does_not_come_back() {
        let mut watch = Watch::new();
        watch.list(&[("a", "Ready")]);
        watch.take(Event::Init);
        let next = serde_json::from_value(sandbox("a", "2", "FromTheFuture")).unwrap();
        watch.take(Event::InitApply(next));
        watch.take(Event::InitDone);
        assert!(watch.cached().is_empty() && watch.unreadable.contains("ns", "a"));
    }

    #[test]
    fn an_object_that_decodes_again_is_readable() {
        let mut watch = Watch::new();
        watch.list(&[("a", "FromTheFuture"), ("b", "FromTheFuture")]);
        watch.take(Event::Apply(guard("a", "Ready")));
        assert!(!watch.unreadable.contains("ns", "a"));
        assert_eq!(watch.cached(), ["a Ready"]);
        watch.list(&[("a", "Ready")]);
        assert!(!watch.unreadable.contains("ns", "b"));
    }
}
