//! Decides about a new pod: its profile, the delivery of the agent, and the buckets that are
//! volumes. The decision depends on the nodes that could take the pod. It is made once per pod,
//! so changes of the nodes do not affect an existing pod. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::CSINode;
use kube::ResourceExt;

use crate::context::{BucketSettings, Delivery, PodSettings};
use crate::sandbox::problem::Problem;
use hutch_api::parts::{TaintEffect, TolerationOperator};
use hutch_api::{SandboxSpec, SecurityProfile, Toleration};
use hutch_core::reasons::Reason;

/// The decision about a new pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The isolation of the sandbox's processes.
    pub profile: SecurityProfile,
    /// True if an image volume delivers the agent, false if an init container does.
    pub image_volume: bool,
    /// The buckets that are volumes of the pod.
    pub volumes: Volumes,
}

/// The buckets of a sandbox that are volumes of its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// None: a pod with a user namespace cannot have FUSE volumes, or no driver can mount
    /// them.
    #[default]
    None,
    /// Those that suit a volume. `hutch-node` mounts the others.
    Declared,
    /// All: the nodes have a driver and no `hutch-node`.
    All,
}

/// All nodes and their CSI drivers.
#[derive(Clone, Copy)]
pub struct ClusterNodes<'a> {
    pub nodes: &'a [Arc<Node>],
    /// The CSI drivers of each node.
    pub drivers: &'a [Arc<CSINode>],
}

/// First release of the API server that has image volumes on by default.
const IMAGE_VOLUMES_SINCE: (u32, u32) = (1, 35);

/// Decides about a new pod for `spec`.
///
/// # Errors
/// The reason why no pod can be created.
pub fn decide(
    spec: &SandboxSpec,
    settings: &PodSettings,
    runtime: Option<&RuntimeClass>,
    cluster: ClusterNodes,
) -> Result<Placement, Problem> {
    let nodes = candidates(spec, runtime, cluster.nodes);
    let handler = runtime.map_or("", |class| class.handler.as_str());
    let profile = profile(spec, settings, &nodes, handler)?;
    let volumes = match profile {
        SecurityProfile::Restricted if !spec.buckets.is_empty() => {
            volumes(&nodes, cluster.drivers, &settings.buckets)
        }
        _ => Volumes::None,
    };
    Ok(Placement {
        profile,
        image_volume: image_volume(settings, &nodes, handler),
        volumes,
    })
}

fn profile(
    spec: &SandboxSpec,
    settings: &PodSettings,
    nodes: &[&Node],
    handler: &str,
) -> Result<SecurityProfile, Problem> {
    let able = |node: &&Node| has_user_namespaces(node, handler);
    let all_able = !nodes.is_empty() && nodes.iter().all(able);
    match spec.security_profile.or(settings.default_profile) {
        Some(SecurityProfile::Root) if !nodes.iter().any(able) => Err(Problem::failed(
            Reason::UserNamespacesUnsupported,
            "securityProfile Root needs a node with user namespaces (containerd 2.0, runc 1.2 and Linux 6.3 or newer), and no node that could take the pod has them: use securityProfile Restricted, or upgrade the nodes",
        )),
        Some(profile) => Ok(profile),
        None if all_able => Ok(SecurityProfile::Root),
        None => Ok(SecurityProfile::Restricted),
    }
}

/// True if an image volume delivers the agent.
fn image_volume(settings: &PodSettings, nodes: &[&Node], handler: &str) -> bool {
    match settings.delivery {
        Delivery::Image => true,
        Delivery::Init => false,
        Delivery::Auto => {
            // Runtimes in a virtual machine or with a kernel of their own may lack image
            // volumes without reporting it.
            matches!(handler, "" | "runc" | "crun")
                && settings.server_version >= IMAGE_VOLUMES_SINCE
                && !nodes.is_empty()
                && nodes.iter().all(|node| has_image_volumes(node))
        }
    }
}

/// The buckets that are volumes. Every node must have the driver, because the scheduler does
/// not consider drivers.
fn volumes(nodes: &[&Node], drivers: &[Arc<CSINode>], settings: &BucketSettings) -> Volumes {
    let everywhere = |driver: &str| {
        let has = |node: &&Node| {
            let mut all = drivers.iter();
            all.any(|on_node| {
                on_node.metadata.name == node.metadata.name
                    && on_node.spec.drivers.iter().any(|own| own.name == driver)
            })
        };
        !nodes.is_empty() && nodes.iter().all(has)
    };
    match (
        everywhere(&settings.csi_driver),
        everywhere(&settings.node_driver),
    ) {
        (false, _) => Volumes::None,
        (true, true) => Volumes::Declared,
        (true, false) => Volumes::All,
    }
}

/// The nodes that could take the pod. If taints exclude all of them, for instance because a
/// node is not ready yet, the nodes that match the selectors.
fn candidates<'a>(
    spec: &SandboxSpec,
    runtime: Option<&RuntimeClass>,
    nodes: &'a [Arc<Node>],
) -> Vec<&'a Node> {
    let scheduling = runtime.and_then(|class| class.scheduling.as_ref());
    let of_runtime = scheduling.and_then(|scheduling| scheduling.node_selector.as_ref());
    let matching: Vec<&Node> = nodes
        .iter()
        .map(Arc::as_ref)
        .filter(|node| {
            let carries = |(key, value): (&String, &String)| node.labels().get(key) == Some(value);
            spec.node_selector.iter().all(carries)
                && of_runtime.is_none_or(|selector| selector.iter().all(carries))
        })
        .collect();
    let open: Vec<&Node> = matching
        .iter()
        .copied()
        .filter(|node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            taints.is_none_or(|taints| {
                taints.iter().all(|taint| {
                    taint.effect == "PreferNoSchedule"
                        || spec.tolerations.iter().any(|t| tolerates(t, taint))
                })
            })
        })
        .collect();
    if open.is_empty() { matching } else { open }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = match toleration.effect {
        None => true,
        Some(TaintEffect::NoSchedule) => taint.effect == "NoSchedule",
        Some(TaintEffect::PreferNoSchedule) => taint.effect == "PreferNoSchedule",
        Some(TaintEffect::NoExecute) => taint.effect == "NoExecute",
    };
    let key = toleration.key.as_ref().is_none_or(|key| *key == taint.key);
    let value = match toleration.operator {
        TolerationOperator::Exists => true,
        TolerationOperator::Equal => {
            toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default()
        }
    };
    effect && key && value
}

/// True if the kubelet reports user namespaces for the runtime handler. The default handler
/// has an empty name.
fn has_user_namespaces(node: &Node, handler: &str) -> bool {
    let status = node.status.as_ref();
    let handlers = status.and_then(|status| status.runtime_handlers.as_ref());
    handlers.is_some_and(|handlers| {
        handlers
            .iter()
            .filter(|own| own.name.as_deref().unwrap_or_default() == handler)
            .any(|own| {
                let features = own.features.as_ref();
                features.and_then(|features| features.user_namespaces) == Some(true)
            })
    })
}

/// True if the node's runtime can mount an image as a volume with executable files:
/// containerd 2.1, CRI-O 1.31.
fn has_image_volumes(node: &Node) -> bool {
    let status = node.status.as_ref();
    let Some(info) = status.and_then(|status| status.node_info.as_ref()) else {
        return false;
    };
    let Some((runtime, version)) = info.container_runtime_version.split_once("://") else {
        return false;
    };
    let mut parts = version
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return false;
    };
    match runtime {
        "containerd" => (major, minor) >= (2, 1),
        "cri-o" => (major, minor) >= (1, 31),
        _ => false,
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
