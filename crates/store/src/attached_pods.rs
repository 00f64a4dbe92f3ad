//! Attached pods: pods that somebody else created and labelled for Hutch to run
//! commands in. This module only reads them.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::sync::watch;

use crate::error::refusal;
use hutch_api::{annotations, labels};
use hutch_core::interfaces::{AttachedPod, AttachedPods, PodRef, ResourceError};
use hutch_core::names::is_name;
use hutch_core::objects::{has_ended, is_ending, is_managed};
use hutch_kube::apply::Writer;
use hutch_kube::watches::Cache;

/// The attached pods of one namespace.
pub struct AttachedPodStore {
    cache: Cache<Pod>,
    api: Writer,
    namespace: String,
}

impl AttachedPodStore {
    /// `cache` must contain the labelled pods of `namespace`. `api` is used for reads
    /// only.
    pub const fn new(cache: Cache<Pod>, api: Writer, namespace: String) -> Self {
        Self {
            cache,
            api,
            namespace,
        }
    }
}

impl AttachedPods for AttachedPodStore {
    fn get(&self, name: &str) -> Option<AttachedPod> {
        attached_pod(&*self.cache.get(&self.namespace, name)?)
    }

    fn exists<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, ResourceError>> {
        async move {
            if !is_name(name) {
                return Ok(false);
            }
            let wanted = ListParams::default()
                .labels(&format!("{}=true", labels::ATTACH))
                .fields(&format!("metadata.name={name}"));
            let found = self
                .api
                .matching::<Pod>(&self.namespace, &wanted)
                .await
                .map_err(refusal)?;
            Ok(found.iter().any(|pod| attached_pod(pod).is_some()))
        }
        .boxed()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.cache.changes()
    }
}

/// The pod, if Hutch may run commands in it: Hutch did not create it, and it is
/// alive.
fn attached_pod(pod: &Pod) -> Option<AttachedPod> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if is_managed(&pod.metadata) || is_ending(&pod.metadata) || has_ended(pod) {
        return None;
    }
    let container = default_container(pod)?;
    let all = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    if !all.iter().any(|one| one.name == container) {
        let text = format!("there is no container {container} in the pod");
        return Some(AttachedPod::Waits(text));
    }
    let states = status.and_then(|status| status.container_statuses.as_ref());
    let state = states.into_iter().flatten().find(|it| it.name == container);
    let state = state.and_then(|it| it.state.clone()).unwrap_or_default();
    if state.running.is_none() {
        let why = reason(&state).unwrap_or_else(|| phase.unwrap_or("Pending").to_owned());
        return Some(AttachedPod::Waits(format!("container {container}: {why}")));
    }
    Some(AttachedPod::Runs(PodRef {
        namespace: pod.namespace()?,
        name: pod.name_any(),
        uid: pod.uid()?,
        container,
        attached: true,
    }))
}

/// The container that `kubectl exec` uses if none is named.
fn default_container(pod: &Pod) -> Option<String> {
    let named = pod.annotations().get(annotations::DEFAULT_CONTAINER);
    let first = || Some(pod.spec.as_ref()?.containers.first()?.name.clone());
    named.cloned().or_else(first)
}

/// The reason why the container does not run, if the kubelet gave one.
fn reason(state: &ContainerState) -> Option<String> {
    let waiting = state.waiting.as_ref().map(|it| (&it.reason, &it.message));
    let ended = state
        .terminated
        .as_ref()
        .map(|it| (&it.reason, &it.message));
    let (reason, message) = waiting.or(ended)?;
    let texts: Vec<_> = [reason, message].into_iter().flatten().cloned().collect();
    (!texts.is_empty()).then(|| texts.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_api::MANAGED_BY;
    use serde_json::{Value, json};

    fn seen(edit: impl FnOnce(&mut Value)) -> Option<AttachedPod> {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {labels::ATTACH: "true"}},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                {"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"running": {}}},
            ]},
        });
        edit(&mut pod);
        attached_pod(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_default_or_first_container_is_used_once_it_runs() {
        let runs = seen(|_| ());
        assert!(
            matches!(runs, Some(AttachedPod::Runs(pod)) if pod.container == "a" && pod.attached)
        );
        let named = json!({"kubectl.kubernetes.io/default-container": "b"});
        let waits = seen(|pod| pod["metadata"]["annotations"] = named);
        let why = "container b: CrashLoopBackOff".to_owned();
        assert_eq!(waits, Some(AttachedPod::Waits(why)));
        let waits = seen(|pod| pod["status"] = json!({"phase": "Pending"}));
        assert_eq!(
            waits,
            Some(AttachedPod::Waits("container a: Pending".into()))
        );
    }

    #[test]
    fn own_pods_and_ended_pods_are_not_attached() {
        let labels = json!({labels::ATTACH: "true", labels::MANAGED_BY: MANAGED_BY});
        assert_eq!(seen(|pod| pod["metadata"]["labels"] = labels), None);
        let ends = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            seen(|pod| pod["metadata"]["deletionTimestamp"] = ends),
            None
        );
        assert_eq!(seen(|pod| pod["status"]["phase"] = json!("Failed")), None);
    }
}
