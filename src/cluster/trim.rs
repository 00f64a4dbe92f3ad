//! What is left out of cached objects, because nobody reads it and a hundred
//! sandboxes have to fit in little memory.

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec};

/// Keeps of a pod's spec its node, whether it has a user namespace, and each
/// container's name and image.
pub fn pod(pod: &mut Pod) {
    let Some(spec) = pod.spec.take() else { return };
    let bare = |container: Container| Container {
        name: container.name,
        image: container.image,
        ..Default::default()
    };
    pod.spec = Some(PodSpec {
        node_name: spec.node_name,
        host_users: spec.host_users,
        containers: spec.containers.into_iter().map(bare).collect(),
        ..Default::default()
    });
}

/// Drops a node's images, addresses, volumes and heartbeats.
pub fn node(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        status.addresses = None;
        status.conditions = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::EnvVar;

    #[test]
    fn a_trimmed_pod_keeps_what_decisions_rest_on() {
        let mut full = Pod {
            spec: Some(PodSpec {
                node_name: Some("n".into()),
                host_users: Some(false),
                containers: vec![Container {
                    name: "sandbox".into(),
                    image: Some("python".into()),
                    env: Some(vec![EnvVar::default()]),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        };
        pod(&mut full);
        let spec = full.spec.unwrap();
        assert_eq!(
            (spec.node_name.as_deref(), spec.host_users),
            (Some("n"), Some(false))
        );
        assert_eq!(spec.containers[0].image.as_deref(), Some("python"));
        assert!(spec.containers[0].env.is_none());
    }
}
