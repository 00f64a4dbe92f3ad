//! Steps of tests of the controllers: apply manifests as a user would, change and delete
//! objects, read conditions, and record the history of pods.

use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::World;
use super::world::eventually;
use hutch_api::{Sandbox, labels};

impl World {
    /// Runs `kubectl ARGUMENTS` in this namespace with `input` on stdin. Returns its output
    /// or its errors.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.environment.kubectl();
        command
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output: Output = tokio::task::block_in_place(|| {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(input.as_bytes()).unwrap();
            drop(stdin);
            child.wait_with_output().unwrap()
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// `kubectl apply --validate=strict` of a manifest in YAML or JSON.
    pub fn apply(&self, manifest: &str) -> Result<String, String> {
        let arguments = ["apply", "--validate=strict", "--filename", "-"];
        self.kubectl(&arguments, manifest)
    }

    /// Merges `patch` into the sandbox.
    pub async fn patch(&self, name: &str, patch: Value) -> Sandbox {
        let params = PatchParams::default();
        let api = self.sandboxes();
        api.patch(name, &params, &Patch::Merge(&patch))
            .await
            .unwrap()
    }

    /// Sets `spec.suspended`.
    pub async fn suspend(&self, name: &str) {
        let patch = json!({"spec": {"suspended": true}});
        self.patch(name, patch).await;
    }

    /// Clears `spec.suspended`.
    pub async fn resume(&self, name: &str) {
        let patch = json!({"spec": {"suspended": false}});
        self.patch(name, patch).await;
    }

    /// Deletes the sandbox and waits until it is gone.
    pub async fn delete(&self, name: &str) {
        let api = self.sandboxes();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        self.gone::<Sandbox>(name).await;
    }

    /// The condition of that type, once it has that reason.
    pub async fn condition(&self, name: &str, kind: &str, reason: &str) -> Condition {
        let reported = |sandbox: &Sandbox| {
            condition(sandbox, kind).is_some_and(|found| found.reason == reason)
        };
        let sandbox = self.sandbox(name, reported).await;
        condition(&sandbox, kind).unwrap().clone()
    }

    /// The names of all claims of this namespace, in order.
    pub async fn claim_names(&self) -> Vec<String> {
        let claims = self.claims().list(&ListParams::default()).await.unwrap();
        claims.iter().map(ResourceExt::name_any).collect()
    }

    /// The pod of that name, once it is another one than `uid`, runs and is ready.
    pub async fn next_pod(&self, name: &str, uid: &str) -> Pod {
        self.ready_with(name, |status_uid| status_uid != uid).await;
        self.pods().get(name).await.unwrap()
    }

    /// The sandbox, once it is Ready on a pod whose UID is as `wanted`.
    pub async fn ready_with(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Sandbox {
        self.sandbox(name, |sandbox| {
            sandbox.status.as_ref().is_some_and(|status| {
                status.phase == hutch_api::Phase::Ready
                    && status.observed_generation == sandbox.metadata.generation
                    && status.pod_uid.as_deref().is_some_and(&wanted)
            })
        })
        .await
    }

    /// Records the history of the pods of this namespace from now on.
    pub fn history(&self) -> History {
        History::record(self)
    }
}

/// The condition of that type.
pub fn condition<'a>(sandbox: &'a Sandbox, kind: &str) -> Option<&'a Condition> {
    let status = sandbox.status.as_ref()?;
    status.conditions.iter().find(|found| found.type_ == kind)
}

/// Every change of the pods of a namespace, as a watch reported it.
pub struct History {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Vec<PodChange>>>,
}

/// One change: the pod, its sandbox, and true if the pod lives after it.
#[derive(Clone, Debug)]
struct PodChange {
    pod: String,
    sandbox: String,
    lives: bool,
}

impl History {
    fn record(world: &World) -> Self {
        let seen = Arc::<Mutex<Vec<PodChange>>>::default();
        let (pods, log) = (world.pods(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let (pod, there) = match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => (pod, true),
                    Ok(Event::Delete(pod)) => (pod, false),
                    _ => continue,
                };
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push(change(&pod, there));
            }
        });
        Self { task, seen }
    }

    /// Checks that no sandbox ever had two live pods. Returns the number of pods of each
    /// sandbox UID, once the history contains `latest`.
    pub async fn check(&self, latest: &Pod) -> std::collections::HashMap<String, usize> {
        let uid = latest.uid().unwrap();
        eventually("the history has the last pod", async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().any(|change| change.pod == uid).then_some(())
        })
        .await;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut living = std::collections::HashMap::<&str, Vec<&str>>::new();
        let mut pods = std::collections::HashMap::<String, Vec<&str>>::new();
        for change in seen.iter() {
            let now = living.entry(&change.sandbox).or_default();
            now.retain(|pod| *pod != change.pod);
            if change.lives {
                now.push(&change.pod);
            }
            assert!(now.len() <= 1, "two live pods of one sandbox: {seen:#?}");
            let all = pods.entry(change.sandbox.clone()).or_default();
            if !all.contains(&change.pod.as_str()) {
                all.push(&change.pod);
            }
        }
        pods.into_iter()
            .map(|(uid, pods)| (uid, pods.len()))
            .collect()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn change(pod: &Pod, there: bool) -> PodChange {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let uid = pod.labels().get(labels::SANDBOX_UID);
    PodChange {
        pod: pod.uid().unwrap_or_default(),
        sandbox: uid.cloned().unwrap_or_default(),
        lives: there && !matches!(phase, Some("Failed" | "Succeeded")),
    }
}
