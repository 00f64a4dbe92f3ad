//! A Sandbox resource alone: the result of `kubectl apply`, and the effect of every field
//! of its spec.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::support::steps::condition;
use crate::support::{Tenant, World};
use hutch_api::{Phase, SandboxStatus, SecurityProfile};

const BOX: &str = "
apiVersion: hutch.dev/v1alpha1
kind: Sandbox
metadata: {name: box}
spec: {workspace: {size: 1Gi}}
";

/// A manifest of a sandbox of that name and spec.
pub fn manifest(name: &str, spec: Value) -> String {
    let (api, kind) = ("hutch.dev/v1alpha1", "Sandbox");
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_sandbox_becomes_ready_and_reports_its_status() {
    let world = World::new("apply").await;
    let _hutch = world.hutch("controller", &[]).await;
    world.apply(BOX).unwrap();
    let sandbox = world.ready("box").await;
    let pod = world.pods().get("box").await.unwrap();
    let claims = world.claim_names().await;
    let SandboxStatus {
        phase,
        conditions,
        observed_generation,
        pod_name,
        pod_uid,
        node,
        image,
        security_profile,
        claim_name,
        started_at,
        slept_at,
        last_activity,
        traceparent,
        project_id,
        buckets,
    } = sandbox.status.clone().unwrap();
    assert_eq!(phase, Phase::Ready);
    for kind in ["Ready", "WorkspaceReady", "PodReady", "AgentReady"] {
        let found = condition(&sandbox, kind).unwrap();
        assert_eq!(found.status, "True", "{found:?}");
        assert_eq!(found.observed_generation, Some(1), "{found:?}");
    }
    assert_eq!(conditions.len(), 4);
    assert_eq!(observed_generation, Some(1));
    assert_eq!(pod_name.as_deref(), Some("box"));
    assert_eq!(pod_uid, pod.uid());
    let spec = pod.spec.as_ref().unwrap();
    assert!(node.is_some() && node == spec.node_name);
    assert_eq!(image.as_deref(), Some("python:3.11-slim"));
    assert_eq!(security_profile, Some(SecurityProfile::Root));
    assert_eq!(claims, [claim_name.unwrap()]);
    assert!(started_at.is_some() && slept_at.is_none() && last_activity.is_none());
    assert!(traceparent.is_none() && project_id.is_none() && buckets.is_empty());

    let claim = world.claims().get(&claims[0]).await.unwrap();
    for owners in [pod.owner_references(), claim.owner_references()] {
        let [owner] = owners else {
            panic!("one owner: {owners:?}")
        };
        assert_eq!(owner.uid, sandbox.uid().unwrap());
        assert_eq!(
            (owner.controller, owner.block_owner_deletion),
            (Some(true), Some(true))
        );
    }
    let wide = world.kubectl(&["get", "sbx", "-o", "wide"], "").unwrap();
    let titles = [
        "NAME", "PHASE", "READY", "POD", "REASON", "IMAGE", "PROFILE", "BUCKETS", "NODE", "LAST",
        "ACTIVITY", "AGE",
    ];
    let mut lines = wide.lines();
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(words(lines.next().unwrap()), titles);
    let row = words(lines.next().unwrap());
    assert_eq!(
        row[..8],
        [
            "box",
            "Ready",
            "True",
            "box",
            "Ready",
            "python:3.11-slim",
            "Root",
            &node.unwrap()
        ]
    );
    world.delete("box").await;
    world.gone::<Pod>("box").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_carries_nothing_that_a_sandbox_does_not_need() {
    let world = World::new("hardened").await;
    let _hutch = world.hutch("controller", &[]).await;
    world.apply(BOX).unwrap();
    world.ready("box").await;
    let pod = world.pods().get("box").await.unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(spec.enable_service_links, Some(false));
    assert_eq!(spec.host_users, Some(false));
    assert!(spec.termination_grace_period_seconds.unwrap() <= 10);
    let security = spec.security_context.unwrap();
    assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!(security.run_as_user, Some(0));
    let [container] = spec.containers.as_slice() else {
        panic!("one container")
    };
    let own = container.security_context.as_ref().unwrap();
    assert_eq!(own.allow_privilege_escalation, Some(false));
    assert_eq!(own.privileged, None);
    let dropped = own.capabilities.as_ref().unwrap().drop.clone().unwrap();
    assert_eq!(dropped, ["ALL"]);
    let limits = container.resources.as_ref().unwrap().limits.clone();
    let limits = limits.unwrap();
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        assert!(limits.contains_key(resource), "{resource}");
    }
    let volumes = spec.volumes.unwrap();
    assert!(
        volumes.iter().all(|v| v.projected.is_none()
            && v.secret.is_none()
            && v.host_path.is_none()
            && v.empty_dir.as_ref().is_none_or(|e| e.size_limit.is_some())),
        "{volumes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_sandbox_passes_pod_security_restricted_and_works() {
    let world = World::new("restricted").await;
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone())
        .patch(
            &world.namespace,
            &PatchParams::default(),
            &Patch::Merge(&labels),
        )
        .await
        .unwrap();
    let (_hutch, tenant) = world
        .with_tenant("r", &["--default-profile", "restricted"])
        .await;
    assert_eq!(tenant.stdout("id -u; id -g").await, "1000\n1000");
    assert_eq!(
        tenant.stdout("echo data > f; cat f; echo $HOME").await,
        "data\n/workspace"
    );
    let sandbox = world.sandbox_of("r").await;
    let status = sandbox.status.unwrap();
    assert_eq!(status.security_profile, Some(SecurityProfile::Restricted));
    let root = manifest("root", json!({"securityProfile": "Root"}));
    world.apply(&root).unwrap();
    let ready = world.condition("root", "Ready", "AdmissionDenied").await;
    assert!(
        ready.message.contains("PodSecurity") && ready.message.contains("restricted"),
        "{}",
        ready.message
    );
}

/// The same, for the sandbox that a REST client calls `id`.
pub fn with_id(name: &str, id: &str, spec: Value) -> String {
    json!({
        "apiVersion": "hutch.dev/v1alpha1", "kind": "Sandbox",
        "metadata": {"name": name, "annotations": {"hutch.dev/sandbox-id": id}},
        "spec": spec,
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_the_spec_has_its_effect() {
    let world = World::new("fields").await;
    runtime_class(&world).await;
    let (_hutch, tenant) = world
        .with_tenant("full", &["--default-image", "unused:1"])
        .await;
    let name = hutch_core::names::sandbox("full");
    let spec = json!({
        "image": "docker.io/library/python:3.11-slim",
        "command": ["sh", "-c", "echo \"$GREETING $(id -u)\" > started; exec sleep 600"],
        "env": [{"name": "GREETING", "value": "a $(HOME) $$ 用"}],
        "resources": {
            "limits": {"cpu": "700m", "memory": "300Mi", "ephemeralStorage": "300Mi"},
            "requests": {"cpu": "20m", "memory": "40Mi", "ephemeralStorage": "50Mi"},
        },
        "workspace": {"mountPath": "/data/work", "size": "2Gi", "storageClassName": "standard"},
        "securityProfile": "Root",
        "runtimeClassName": "hutch-test-runc",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [
            {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 7},
            {"operator": "Exists", "effect": "NoSchedule"},
        ],
        "project": {"id": "p/1"},
    });
    world.apply(&with_id(&name, "full", spec)).unwrap();
    let sandbox = world.ready(&name).await;
    seen_from_inside(&tenant).await;
    assert_pod(&world.pods().get(&name).await.unwrap());
    let claim = sandbox.status.unwrap().claim_name.unwrap();
    let claim = world.claims().get(&claim).await.unwrap().spec.unwrap();
    assert_eq!(claim.storage_class_name.as_deref(), Some("standard"));
    let size = claim.resources.unwrap().requests.unwrap();
    assert_eq!(size["storage"].0, "2Gi");
}

async fn runtime_class(world: &World) {
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": "hutch-test-runc"}, "handler": "runc",
    });
    let api = Api::<RuntimeClass>::all(world.client.clone());
    let params = PatchParams::apply("hutch-tests").force();
    api.patch("hutch-test-runc", &params, &Patch::Apply(&class))
        .await
        .unwrap();
}

async fn seen_from_inside(tenant: &Tenant) {
    assert_eq!(tenant.stdout("pwd; id -u").await, "/data/work\n0");
    assert_eq!(
        tenant.stdout("printf '%s' \"$GREETING\"").await,
        "a $(HOME) $$ 用",
        "nothing is expanded in a value"
    );
    // The user's entrypoint runs beside the commands, as the same user.
    assert_eq!(
        tenant
            .stdout("until [ -s started ]; do sleep 0.05; done; cat started")
            .await,
        "a $(HOME) $$ 用 0"
    );
    assert_eq!(
        tenant
            .stdout("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 600'")
            .await,
        "1"
    );
    // cgroup v2, or else v1: the limits of the kernel, not only those of the pod.
    let memory = "cd /sys/fs/cgroup; cat memory.max || cat memory/memory.limit_in_bytes";
    assert_eq!(tenant.stdout(memory).await, (300 << 20).to_string());
    let cpu = "cd /sys/fs/cgroup; cat cpu.max || cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us";
    let cpu = tenant.stdout(cpu).await;
    assert_eq!(
        cpu.split_whitespace().collect::<Vec<_>>(),
        ["70000", "100000"]
    );
}

fn assert_pod(pod: &Pod) {
    let spec = pod.spec.as_ref().unwrap();
    let container = &spec.containers[0];
    assert_eq!(
        container.image.as_deref(),
        Some("docker.io/library/python:3.11-slim")
    );
    let requests = container.resources.as_ref().unwrap().requests.clone();
    let requests = requests.unwrap();
    for (resource, amount) in [
        ("cpu", "20m"),
        ("memory", "40Mi"),
        ("ephemeral-storage", "50Mi"),
    ] {
        assert_eq!(requests[resource].0, amount);
    }
    assert_eq!(spec.runtime_class_name.as_deref(), Some("hutch-test-runc"));
    let selector = spec.node_selector.as_ref().unwrap();
    assert_eq!(selector["kubernetes.io/os"], "linux");
    let tolerations = serde_json::to_value(spec.tolerations.as_ref().unwrap()).unwrap();
    let ours = tolerations.as_array().unwrap();
    for own in [
        json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 7}),
        json!({"operator": "Exists", "effect": "NoSchedule"}),
    ] {
        assert!(ours.contains(&own), "{ours:?}");
    }
    assert_eq!(pod.annotations()["hutch.dev/project-id"], "p/1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_no_node_can_run_reports_it_and_waits() {
    let world = World::new("nowhere").await;
    let _hutch = world.hutch("controller", &[]).await;
    let spec = json!({"securityProfile": "Restricted", "nodeSelector": {"hutch.dev/test": &world.namespace}});
    world.apply(&manifest("lost", spec)).unwrap();
    let ready = world.condition("lost", "Ready", "Unschedulable").await;
    assert!(ready.message.contains("node"), "{}", ready.message);
    let sandbox = world.sandbox("lost", |_| true).await;
    assert_eq!(sandbox.status.unwrap().phase, Phase::Pending);

    // The sandbox does not change, but a node does. That alone triggers a reconcile.
    let nodes = Api::<Node>::all(world.client.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items[0].name_any();
    let label = |value: Value| json!({"metadata": {"labels": {"hutch.dev/test": value}}});
    let params = PatchParams::default();
    let set = label(json!(world.namespace));
    nodes
        .patch(&node, &params, &Patch::Merge(&set))
        .await
        .unwrap();
    let sandbox = world.ready("lost").await;
    assert_eq!(sandbox.meta().generation, Some(1));
    let unset = label(Value::Null);
    nodes
        .patch(&node, &params, &Patch::Merge(&unset))
        .await
        .unwrap();
}
