//! Which profile a pod gets and how the agent comes into it, from what the nodes
//! that could take the pod can do. Decided once per pod: an existing pod stays
//! as it was made when nodes come and go.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::CSINode;
use kube::ResourceExt;

use crate::context::{BucketSettings, Delivery, PodSettings};
use crate::sandbox::problem::Problem;
use hutch_api::parts::{TaintEffect, TolerationOperator};
use hutch_api::{SandboxSpec, SecurityProfile, Toleration};

/// What is decided about a pod before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Who the sandbox's processes are.
    pub profile: SecurityProfile,
    /// Whether the agent comes as an image volume, else by init container.
    pub image_volume: bool,
    /// Which of its buckets are volumes of the pod.
    pub volumes: Volumes,
}

/// Which buckets of a sandbox come as volumes of its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// None: a user namespace takes no FUSE volumes, or no driver can mount them.
    #[default]
    None,
    /// Those that a volume serves well; `hutch-node` mounts the others.
    Declared,
    /// All: there is a driver and no `hutch-node`.
    All,
}

/// What the nodes are known to have.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The nodes.
    pub nodes: &'a [Arc<Node>],
    /// Their CSI drivers.
    pub drivers: &'a [Arc<CSINode>],
}

/// First release of the API server that has image volumes on by default.
const IMAGE_VOLUMES_SINCE: (u32, u32) = (1, 35);

/// Decides for `spec`, or says why no pod can be made.
pub fn decide(
    spec: &SandboxSpec,
    settings: &PodSettings,
    runtime: Option<&RuntimeClass>,
    known: Known,
) -> Result<Placement, Problem> {
    let nodes = candidates(spec, runtime, known.nodes);
    let handler = runtime.map_or("", |class| class.handler.as_str());
    let able = |node: &&Node| user_namespaces(node, handler);
    let all_able = !nodes.is_empty() && nodes.iter().all(able);
    let profile = match spec.security_profile.or(settings.default_profile) {
        Some(SecurityProfile::Root) if !nodes.iter().any(able) => {
            return Err(Problem::failed(
                "UserNamespacesUnsupported",
                "securityProfile Root needs a node with user namespaces (containerd 2.0, runc 1.2 and Linux 6.3 or newer), and no node that could take the pod has them: use securityProfile Restricted, or upgrade the nodes",
            ));
        }
        Some(profile) => profile,
        None if all_able => SecurityProfile::Root,
        None => SecurityProfile::Restricted,
    };
    let image_volume = match settings.delivery {
        Delivery::Image => true,
        Delivery::Init => false,
        Delivery::Auto => {
            // Runtimes in a virtual machine or with a kernel of their own may
            // lack image volumes without saying so.
            let plain = matches!(handler, "" | "runc" | "crun");
            plain
                && settings.server_version >= IMAGE_VOLUMES_SINCE
                && !nodes.is_empty()
                && nodes.iter().all(|node| image_volumes(node))
        }
    };
    let volumes = match profile {
        SecurityProfile::Restricted if !spec.buckets.is_empty() => {
            volumes(&nodes, known.drivers, &settings.buckets)
        }
        _ => Volumes::None,
    };
    Ok(Placement {
        profile,
        image_volume,
        volumes,
    })
}

/// The scheduler does not ask which node has a driver, so that every node has to
/// have it.
fn volumes(nodes: &[&Node], drivers: &[Arc<CSINode>], settings: &BucketSettings) -> Volumes {
    let everywhere = |driver: &str| {
        let has = |node: &&Node| {
            let mut known = drivers.iter();
            known.any(|known| {
                known.metadata.name == node.metadata.name
                    && known.spec.drivers.iter().any(|own| own.name == driver)
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

/// The nodes that the scheduler could choose from; where taints leave none (a
/// node that is not ready yet, say), those that match the selectors.
fn candidates<'a>(
    spec: &SandboxSpec,
    runtime: Option<&RuntimeClass>,
    nodes: &'a [Arc<Node>],
) -> Vec<&'a Node> {
    let scheduling = runtime.and_then(|class| class.scheduling.as_ref());
    let theirs = scheduling.and_then(|scheduling| scheduling.node_selector.as_ref());
    let matching: Vec<&Node> = nodes
        .iter()
        .map(Arc::as_ref)
        .filter(|node| {
            let carries = |(key, value): (&String, &String)| node.labels().get(key) == Some(value);
            spec.node_selector.iter().all(carries)
                && theirs.is_none_or(|selector| selector.iter().all(carries))
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

/// Whether the kubelet reports user namespaces for the handler; the default
/// handler has an empty name.
fn user_namespaces(node: &Node, handler: &str) -> bool {
    let status = node.status.as_ref();
    let handlers = status.and_then(|status| status.runtime_handlers.as_ref());
    handlers.is_some_and(|handlers| {
        handlers
            .iter()
            .filter(|known| known.name.as_deref().unwrap_or_default() == handler)
            .any(|known| {
                let features = known.features.as_ref();
                features.and_then(|features| features.user_namespaces) == Some(true)
            })
    })
}

/// Whether the node's runtime can mount an image as a volume with its files
/// executable: containerd 2.1, CRI-O 1.31.
fn image_volumes(node: &Node) -> bool {
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
