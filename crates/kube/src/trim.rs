//! Removes the fields of cached objects that nobody reads, to save memory.

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, Container, Node, PersistentVolume, PersistentVolumeSpec, Pod,
    PodSpec, Volume,
};
use k8s_openapi::api::storage::v1::CSINode;

/// Keeps of a pod's spec its node, `hostUsers`, the name and image of each container, and the
/// name and claim of each volume.
pub fn pod(pod: &mut Pod) {
    let Some(spec) = pod.spec.take() else { return };
    let bare = |container: Container| Container {
        name: container.name,
        image: container.image,
        ..Default::default()
    };
    let named = |volume: Volume| Volume {
        name: volume.name,
        persistent_volume_claim: volume.persistent_volume_claim,
        ..Default::default()
    };
    let volumes = spec.volumes.unwrap_or_default();
    pod.spec = Some(PodSpec {
        volumes: Some(volumes.into_iter().map(named).collect()),
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

/// Keeps the source of a volume, its claim, and the reference to its Secret.
pub fn volume(volume: &mut PersistentVolume) {
    volume.metadata.annotations = None;
    let Some(spec) = volume.spec.take() else {
        return;
    };
    let bare = |csi: CSIPersistentVolumeSource| CSIPersistentVolumeSource {
        driver: csi.driver,
        volume_handle: csi.volume_handle,
        node_publish_secret_ref: csi.node_publish_secret_ref,
        ..Default::default()
    };
    volume.spec = Some(PersistentVolumeSpec {
        claim_ref: spec.claim_ref,
        csi: spec.csi.map(bare),
        ..Default::default()
    });
}

/// Keeps the names of a node's drivers.
pub fn csi_node(node: &mut CSINode) {
    node.metadata.annotations = None;
    for driver in &mut node.spec.drivers {
        driver.topology_keys = None;
        driver.node_id.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, EnvVar};

    #[test]
    fn a_trimmed_pod_keeps_the_fields_that_decisions_use() {
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
                volumes: Some(vec![Volume {
                    name: "bucket-data".into(),
                    empty_dir: Some(EmptyDirVolumeSource::default()),
                    ..Default::default()
                }]),
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
        let volumes = spec.volumes.unwrap();
        assert_eq!(volumes[0].name, "bucket-data");
        assert!(volumes[0].empty_dir.is_none());
    }
}
