//! Sandboxes, pods, claims and nodes in the form in which the API server returns them, for the
//! unit tests of this controller.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Node, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus,
    NodeSystemInfo, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod, PodCondition,
    PodStatus,
};
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::desired::placement::{Placement, Volumes};
use super::desired::{pod as desired_pod, workspace};
use super::mounts::MountSupport;
use super::observe::Observed;
use crate::context::PodSettings;
use hutch_api::{
    Bucket, BucketPhase, BucketProvider, BucketStatus, CONTAINER, Mechanism, Sandbox, SandboxSpec,
    SandboxStatus, SecretRef, SecurityProfile,
};
use hutch_core::buckets;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn settings() -> PodSettings {
    PodSettings::new("python:3.11-slim", "hutch:1", (1, 36))
}

/// Created at second 100, in generation 1.
pub fn sandbox(change: impl FnOnce(&mut SandboxSpec)) -> Sandbox {
    let mut spec = SandboxSpec::default();
    change(&mut spec);
    let mut sandbox = Sandbox::new("box", spec);
    sandbox.metadata.uid = Some("uid-1".into());
    sandbox.metadata.namespace = Some("ns".into());
    sandbox.metadata.generation = Some(1);
    sandbox.metadata.creation_timestamp = Some(Time(at(100)));
    sandbox
}

pub fn with_status(mut sandbox: Sandbox, change: impl FnOnce(&mut SandboxStatus)) -> Sandbox {
    change(sandbox.status.get_or_insert_default());
    sandbox
}

/// The sandbox's pod, created at second 100, without a status.
pub fn pod(sandbox: &Sandbox) -> Pod {
    let placement = Placement {
        profile: SecurityProfile::Root,
        image_volume: true,
        volumes: Volumes::None,
    };
    let mut pod = desired_pod::pod(sandbox, &settings(), placement, &[]);
    pod.metadata.uid = Some("pod-1".into());
    pod.metadata.creation_timestamp = Some(Time(at(100)));
    pod.spec.as_mut().unwrap().node_name = Some("node-1".into());
    pod
}

pub fn container(state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: CONTAINER.into(),
        image: "python:3.11-slim".into(),
        container_id: Some("containerd://1".into()),
        ready: state.running.is_some(),
        state: Some(state),
        ..Default::default()
    }
}

pub fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.into()),
            message: Some(message.into()),
        }),
        ..Default::default()
    }
}

pub fn terminated(reason: &str, exit_code: i32) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: Some(reason.into()),
            exit_code,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn running() -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning {
            started_at: Some(Time(at(102))),
        }),
        ..Default::default()
    }
}

pub fn in_state(mut pod: Pod, status: ContainerStatus) -> Pod {
    let ready = condition("Ready", if status.ready { "True" } else { "False" }, "");
    pod.status = Some(PodStatus {
        phase: Some("Running".into()),
        conditions: Some(vec![ready]),
        container_statuses: Some(vec![status]),
        ..Default::default()
    });
    pod
}

pub fn ready(pod: Pod) -> Pod {
    in_state(pod, container(running()))
}

pub fn condition(kind: &str, status: &str, message: &str) -> PodCondition {
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        message: Some(message.into()),
        ..Default::default()
    }
}

pub fn claim(sandbox: &Sandbox, phase: &str) -> PersistentVolumeClaim {
    let mut claim = workspace::claim(sandbox).unwrap();
    claim.metadata.uid = Some("claim-1".into());
    claim.status = Some(PersistentVolumeClaimStatus {
        phase: Some(phase.into()),
        ..Default::default()
    });
    claim
}

pub fn node(user_namespaces: bool) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some("node-1".into());
    node.status = Some(NodeStatus {
        node_info: Some(NodeSystemInfo {
            container_runtime_version: "containerd://2.4.2".into(),
            ..Default::default()
        }),
        runtime_handlers: Some(vec![NodeRuntimeHandler {
            name: None,
            features: Some(NodeRuntimeHandlerFeatures {
                user_namespaces: Some(user_namespaces),
                ..Default::default()
            }),
        }]),
        ..Default::default()
    });
    node
}

/// The observation of a new sandbox: a node exists, and nothing else.
pub fn observed(sandbox: Sandbox) -> Observed {
    Observed {
        sandbox: Arc::new(sandbox),
        pod: None,
        claim: None,
        runtime: None,
        nodes: vec![Arc::new(node(true))],
        drivers: Vec::new(),
        volumes: Vec::new(),
        bucket_claims: Vec::new(),
        mount_support: MountSupport::default(),
        spec_changed_at: None,
        node_known: true,
        pod_backoff: None,
        cache_lags: false,
    }
}

/// A bucket. Its name is also the name of its S3 bucket and of its mount point.
pub fn bucket(name: &str) -> Bucket {
    Bucket {
        name: name.into(),
        bucket: name.into(),
        prefix: None,
        endpoint: "https://s3.example.com".into(),
        region: None,
        provider: BucketProvider::Other,
        mount_path: format!("/mnt/{name}"),
        read_only: false,
        options: Vec::new(),
        credentials_secret_ref: SecretRef {
            name: "keys".into(),
            namespace: None,
        },
    }
}

/// The entry of `hutch-node` about a bucket in the container of `ready`.
pub fn reported(bucket: &Bucket, phase: BucketPhase, reason: Option<&str>) -> BucketStatus {
    BucketStatus {
        name: bucket.name.clone(),
        phase,
        mechanism: Some(Mechanism::Live),
        since: Some(Time(at(110))),
        last_check: Some(Time(at(110))),
        reason: reason.map(str::to_owned),
        error: reason.map(|_| "what is wrong".to_owned()),
        container_id: Some("containerd://1".into()),
        digest: Some(buckets::digest(bucket)),
    }
}

/// A node with those CSI drivers.
pub fn csi_node(name: &str, drivers: &[&str]) -> CSINode {
    let mut node = CSINode::default();
    node.metadata.name = Some(name.into());
    let named = |driver: &&str| CSINodeDriver {
        name: (*driver).into(),
        ..Default::default()
    };
    node.spec.drivers = drivers.iter().map(named).collect();
    node
}
