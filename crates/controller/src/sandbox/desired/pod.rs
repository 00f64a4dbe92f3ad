//! The pod of a sandbox: the user's image with the agent as PID 1, the workspace,
//! and one of the two security profiles.

use std::collections::BTreeMap;

use hutch_wire::paths;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, ImageVolumeSource,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, SeccompProfile,
    SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::buckets::BucketVolume;
use super::placement::Placement;
use super::{digest, labels_of, resources, workspace};
use crate::context::PodSettings;
use hutch_api::parts::{TaintEffect, TolerationOperator};
use hutch_api::{CONTAINER, Compute, Sandbox, SandboxSpec, SecurityProfile, annotations, parts};
use hutch_core::names;

/// The agent ends within two seconds of its SIGTERM.
const GRACE_SECONDS: i64 = 5;
/// uid and gid of the profile Restricted.
pub(super) const USER: i64 = 1000;
/// Size of the emptyDir that an init container copies the agent into.
const AGENT_SIZE: &str = "64Mi";
const WORKSPACE: &str = "workspace";
const AGENT: &str = "agent";
/// Capabilities of uid 0. Package managers change the owner of files (CHOWN, FOWNER, FSETID),
/// ignore file modes (DAC_OVERRIDE), download as another user (SETUID, SETGID: apt's `_apt`)
/// and kill those processes (KILL), set file capabilities (SETFCAP) and enter a chroot
/// (SYS_CHROOT). Servers bind ports below 1024 (NET_BIND_SERVICE).
const CAPABILITIES: [&str; 10] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
];

/// The pod for `sandbox`. `buckets` are its volumes.
pub fn pod(
    sandbox: &Sandbox,
    settings: &PodSettings,
    placement: Placement,
    buckets: &[BucketVolume],
) -> Pod {
    let spec = &sandbox.spec;
    let restricted = placement.profile == SecurityProfile::Restricted;
    Pod {
        metadata: ObjectMeta {
            name: Some(names::pod(&sandbox.name_any())),
            namespace: sandbox.namespace(),
            labels: Some(labels_of(sandbox)),
            annotations: Some(annotations_of(sandbox, buckets)),
            owner_references: Some(sandbox.owner_reference().into_iter().collect()),
            ..Default::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some("Always".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            host_users: (!restricted).then_some(false),
            runtime_class_name: spec.runtime_class_name.clone(),
            node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
            tolerations: tolerations(spec),
            security_context: Some(pod_security(restricted, fs_group(settings, buckets))),
            init_containers: (!placement.image_volume)
                .then(|| vec![installer(settings, restricted)]),
            containers: vec![container(sandbox, settings, placement, buckets)],
            volumes: Some(volumes(sandbox, settings, placement, buckets)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The pod's annotations: the parts of the spec that it was created from, and its project.
fn annotations_of(sandbox: &Sandbox, buckets: &[BucketVolume]) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([(
        annotations::POD_DIGEST.to_owned(),
        digest::of(&sandbox.spec),
    )]);
    let own = sandbox.annotations();
    for key in [annotations::RESTART, annotations::SANDBOX_ID] {
        if let Some(value) = own.get(key) {
            notes.insert(key.to_owned(), value.clone());
        }
    }
    if !buckets.is_empty() {
        let all: Vec<_> = buckets.iter().map(BucketVolume::annotation).collect();
        notes.insert(annotations::BUCKETS.to_owned(), all.join(" "));
    }
    if let Some(project) = &sandbox.spec.project {
        notes.insert(annotations::PROJECT.to_owned(), project.id.clone());
    }
    notes
}

fn container(
    sandbox: &Sandbox,
    settings: &PodSettings,
    placement: Placement,
    buckets: &[BucketVolume],
) -> Container {
    let (spec, namespace) = (&sandbox.spec, sandbox.metadata.namespace.as_deref());
    let restricted = placement.profile == SecurityProfile::Restricted;
    let extra: &[&str] = if placement.image_volume {
        &[]
    } else {
        &[AGENT_SIZE]
    };
    let mut command = vec![paths::AGENT.to_owned(), "run".to_owned(), "--".to_owned()];
    command.extend(spec.command.iter().map(|word| literal(word)));
    let part = |path: &str, sub_path: &str| VolumeMount {
        name: WORKSPACE.to_owned(),
        mount_path: path.to_owned(),
        sub_path: Some(sub_path.to_owned()),
        ..Default::default()
    };
    let mut mounts = vec![
        part(&spec.workspace.mount_path, "workspace"),
        part(paths::STATE, "state"),
        VolumeMount {
            name: AGENT.to_owned(),
            mount_path: paths::BIN.to_owned(),
            read_only: Some(true),
            ..Default::default()
        },
    ];
    mounts.extend(buckets.iter().map(|bucket| bucket.pod_volume().1));
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image(spec, settings).to_owned()),
        command: Some(command),
        working_dir: Some(spec.workspace.mount_path.clone()),
        env: Some(environment(spec, restricted)),
        resources: Some(resources::requirements(
            spec,
            settings.limits_in(namespace),
            &settings.requests,
            extra,
        )),
        security_context: Some(container_security(restricted)),
        volume_mounts: Some(mounts),
        ..Default::default()
    }
}

/// The image of a new pod.
pub fn image<'a>(spec: &'a SandboxSpec, settings: &'a PodSettings) -> &'a str {
    spec.image.as_deref().unwrap_or(&settings.default_image)
}

/// The user's variables. Profile Restricted sets HOME as well, because uid 1000 may have no
/// home in the image.
fn environment(spec: &SandboxSpec, restricted: bool) -> Vec<EnvVar> {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(literal(value)),
        value_from: None,
    };
    let mut variables: Vec<_> = spec
        .env
        .iter()
        .map(|own| variable(&own.name, &own.value))
        .collect();
    if restricted && !spec.env.iter().any(|own| own.name == "HOME") {
        variables.push(variable("HOME", &spec.workspace.mount_path));
    }
    variables
}

/// Escapes `text`, so that Kubernetes expands nothing in it: `$(NAME)` is its syntax for a
/// variable in commands and values, and `$$` is one dollar.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// The init container that copies the agent out of the operator's image.
fn installer(settings: &PodSettings, restricted: bool) -> Container {
    let amount = |cpu: &str, memory: &str| Compute {
        cpu: Some(cpu.to_owned()),
        memory: Some(memory.to_owned()),
        ephemeral_storage: Some(AGENT_SIZE.to_owned()),
    };
    Container {
        name: AGENT.to_owned(),
        image: Some(settings.agent_image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![
            "/hutch-agent".to_owned(),
            "install".to_owned(),
            paths::BIN.to_owned(),
        ]),
        resources: Some(resources::requirements(
            &SandboxSpec::default(),
            &amount("500m", "64Mi"),
            &amount("10m", "32Mi"),
            &[],
        )),
        security_context: Some(container_security(restricted)),
        volume_mounts: Some(vec![VolumeMount {
            name: AGENT.to_owned(),
            mount_path: paths::BIN.to_owned(),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

fn volumes(
    sandbox: &Sandbox,
    settings: &PodSettings,
    placement: Placement,
    buckets: &[BucketVolume],
) -> Vec<Volume> {
    let empty_dir = |size: &str| {
        Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(size.to_owned())),
            ..Default::default()
        })
    };
    let claim_name = workspace::claim_name(sandbox);
    let workspace = Volume {
        name: WORKSPACE.to_owned(),
        empty_dir: match claim_name {
            Some(_) => None,
            None => empty_dir(&sandbox.spec.workspace.size),
        },
        persistent_volume_claim: claim_name.map(|claim_name| PersistentVolumeClaimVolumeSource {
            claim_name,
            ..Default::default()
        }),
        ..Default::default()
    };
    let agent = Volume {
        name: AGENT.to_owned(),
        image: placement.image_volume.then(|| ImageVolumeSource {
            reference: Some(settings.agent_image.clone()),
            pull_policy: Some("IfNotPresent".to_owned()),
        }),
        empty_dir: if placement.image_volume {
            None
        } else {
            empty_dir(AGENT_SIZE)
        },
        ..Default::default()
    };
    let mut all = vec![workspace, agent];
    all.extend(buckets.iter().map(|bucket| bucket.pod_volume().0));
    all
}

/// The group that the kubelet gives all volumes to. If the driver of a bucket allows it
/// (k8s-csi-s3 does: `fsGroupPolicy` File), the kubelet would walk every object of the bucket,
/// so such a pod has no group. The driver of `hutch-node` does not allow it.
fn fs_group(settings: &PodSettings, buckets: &[BucketVolume]) -> Option<i64> {
    (buckets.is_empty() || settings.buckets.own_driver()).then_some(USER)
}

fn pod_security(restricted: bool, fs_group: Option<i64>) -> PodSecurityContext {
    let mut context = PodSecurityContext {
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    if restricted {
        context.run_as_non_root = Some(true);
        context.run_as_user = Some(USER);
        context.run_as_group = Some(USER);
        context.fs_group = fs_group;
        // The kubelet walks the tree only if its root has another group.
        context.fs_group_change_policy = fs_group.map(|_| "OnRootMismatch".to_owned());
    } else {
        context.run_as_user = Some(0);
        context.run_as_group = Some(0);
    }
    context
}

/// `no_new_privs` is on in both profiles: uid 0 needs no sudo.
fn container_security(restricted: bool) -> SecurityContext {
    let add = CAPABILITIES.iter().map(ToString::to_string).collect();
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: (!restricted).then_some(add),
        }),
        ..Default::default()
    }
}

fn tolerations(spec: &SandboxSpec) -> Option<Vec<Toleration>> {
    let convert = |own: &parts::Toleration| Toleration {
        key: own.key.clone(),
        operator: Some(
            match own.operator {
                TolerationOperator::Equal => "Equal",
                TolerationOperator::Exists => "Exists",
            }
            .to_owned(),
        ),
        value: own.value.clone(),
        effect: own.effect.map(|effect| {
            match effect {
                TaintEffect::NoSchedule => "NoSchedule",
                TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                TaintEffect::NoExecute => "NoExecute",
            }
            .to_owned()
        }),
        toleration_seconds: own.toleration_seconds,
    };
    (!spec.tolerations.is_empty()).then(|| spec.tolerations.iter().map(convert).collect())
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
