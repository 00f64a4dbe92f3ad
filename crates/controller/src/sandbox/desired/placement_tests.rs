use k8s_openapi::api::core::v1::{
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};

use super::*;
use crate::sandbox::fixtures::{bucket, csi_node};

fn settings() -> PodSettings {
    PodSettings::new("python", "hutch", (1, 36))
}

fn node(runtime: &str, user_namespaces: bool) -> Node {
    let mut node = Node::default();
    node.labels_mut().insert("disk".into(), "fast".into());
    node.status = Some(NodeStatus {
        node_info: Some(NodeSystemInfo {
            container_runtime_version: runtime.into(),
            ..Default::default()
        }),
        runtime_handlers: Some(
            ["", "runc"]
                .into_iter()
                .map(|name| NodeRuntimeHandler {
                    name: Some(name.into()),
                    features: Some(NodeRuntimeHandlerFeatures {
                        user_namespaces: Some(user_namespaces),
                        ..Default::default()
                    }),
                })
                .collect(),
        ),
        ..Default::default()
    });
    node
}

fn tainted(mut node: Node, effect: &str) -> Node {
    node.spec = Some(NodeSpec {
        taints: Some(vec![Taint {
            key: "dedicated".into(),
            value: Some("db".into()),
            effect: effect.into(),
            ..Default::default()
        }]),
        ..Default::default()
    });
    node
}

fn cluster(nodes: &[Arc<Node>]) -> ClusterNodes<'_> {
    ClusterNodes {
        nodes,
        drivers: &[],
    }
}

fn decided(spec: &SandboxSpec, nodes: Vec<Node>) -> Result<Placement, Problem> {
    let nodes: Vec<_> = nodes.into_iter().map(Arc::new).collect();
    decide(spec, &settings(), None, cluster(&nodes))
}

const NEW: &str = "containerd://2.4.2";
const OLD: &str = "containerd://1.6.20~ds1";

#[test]
fn a_pod_is_root_with_an_image_volume_if_all_nodes_support_both() {
    let placement = decided(&SandboxSpec::default(), vec![node(NEW, true)]).unwrap();
    assert_eq!(placement.profile, SecurityProfile::Root);
    assert!(placement.image_volume);
}

#[test]
fn a_pod_is_restricted_if_one_node_has_no_user_namespaces() {
    let placement = decided(
        &SandboxSpec::default(),
        vec![node(NEW, true), node(OLD, false)],
    )
    .unwrap();
    assert_eq!(placement.profile, SecurityProfile::Restricted);
    assert!(!placement.image_volume);
}

#[test]
fn without_nodes_a_pod_is_restricted_and_has_an_init_container() {
    let placement = decided(&SandboxSpec::default(), vec![]).unwrap();
    assert_eq!(placement.profile, SecurityProfile::Restricted);
    assert!(!placement.image_volume);
}

#[test]
fn a_node_that_cannot_take_the_pod_does_not_count() {
    let mut other = node(OLD, false);
    other.labels_mut().insert("disk".into(), "slow".into());
    let mut spec = SandboxSpec::default();
    spec.node_selector.insert("disk".into(), "fast".into());
    let placement = decided(&spec, vec![node(NEW, true), other]).unwrap();
    assert_eq!(placement.profile, SecurityProfile::Root);

    let closed = tainted(node(OLD, false), "NoSchedule");
    let spec = SandboxSpec::default();
    let placement = decided(&spec, vec![node(NEW, true), closed.clone()]).unwrap();
    assert_eq!(placement.profile, SecurityProfile::Root);

    let tolerant = SandboxSpec {
        tolerations: vec![Toleration {
            key: Some("dedicated".into()),
            operator: TolerationOperator::Equal,
            value: Some("db".into()),
            effect: None,
            toleration_seconds: None,
        }],
        ..Default::default()
    };
    let placement = decided(&tolerant, vec![node(NEW, true), closed]).unwrap();
    assert_eq!(placement.profile, SecurityProfile::Restricted);
}

#[test]
fn a_node_that_is_not_ready_yet_counts_if_there_is_no_other() {
    let starting = tainted(node(NEW, true), "NoSchedule");
    let placement = decided(&SandboxSpec::default(), vec![starting]).unwrap();
    assert_eq!(placement.profile, SecurityProfile::Root);
}

#[test]
fn root_without_user_namespaces_is_refused_with_advice() {
    let spec = SandboxSpec {
        security_profile: Some(SecurityProfile::Root),
        ..Default::default()
    };
    let problem = decided(&spec, vec![node(OLD, false)]).unwrap_err();
    assert_eq!(problem.reason, Reason::UserNamespacesUnsupported);
    assert!(problem.failed && problem.message.contains("Restricted"));
    assert!(decided(&spec, vec![node(OLD, false), node(NEW, true)]).is_ok());
}

#[test]
fn the_handler_of_the_runtime_class_decides() {
    let nodes = [Arc::new(node(NEW, true))];
    let class = |handler: &str| RuntimeClass {
        handler: handler.into(),
        ..Default::default()
    };
    let spec = SandboxSpec::default();
    let runc = decide(&spec, &settings(), Some(&class("runc")), cluster(&nodes)).unwrap();
    assert_eq!(
        (runc.profile, runc.image_volume),
        (SecurityProfile::Root, true)
    );
    let kata = decide(&spec, &settings(), Some(&class("kata")), cluster(&nodes)).unwrap();
    assert_eq!(
        (kata.profile, kata.image_volume),
        (SecurityProfile::Restricted, false)
    );
}

#[test]
fn an_old_server_or_the_setting_decides_the_delivery() {
    let nodes = [Arc::new(node(NEW, true))];
    let spec = SandboxSpec::default();
    let with = |version, delivery| {
        let settings = PodSettings {
            server_version: version,
            delivery,
            ..settings()
        };
        decide(&spec, &settings, None, cluster(&nodes))
            .unwrap()
            .image_volume
    };
    assert!(!with((1, 34), Delivery::Auto));
    assert!(with((1, 34), Delivery::Image));
    assert!(!with((1, 36), Delivery::Init));
}

#[test]
fn runtime_versions_are_read_as_the_kubelet_writes_them() {
    for (runtime, able) in [
        ("containerd://2.1.0-rc.1", true),
        ("containerd://v2.4.2", true),
        ("containerd://2.0.7", false),
        ("cri-o://1.31.0", true),
        ("cri-o://1.30.9", false),
        ("docker://29.0.0", false),
        ("", false),
    ] {
        assert_eq!(has_image_volumes(&node(runtime, true)), able, "{runtime}");
    }
}

#[test]
fn buckets_are_volumes_of_a_restricted_pod_if_every_node_has_the_driver() {
    let settings = PodSettings {
        buckets: BucketSettings {
            csi_driver: "ru.yandex.s3.csi".into(),
            ..Default::default()
        },
        ..settings()
    };
    let (yandex, ours) = ("ru.yandex.s3.csi", "s3.hutch.dev");
    let named = |name: &str| {
        let mut node = node(NEW, true);
        node.metadata.name = Some(name.into());
        Arc::new(node)
    };
    let nodes = [named("a"), named("b")];
    let decided = |profile, a: &[&str], b: &[&str]| {
        let spec = SandboxSpec {
            security_profile: Some(profile),
            buckets: vec![bucket("data")],
            ..Default::default()
        };
        let drivers = [Arc::new(csi_node("a", a)), Arc::new(csi_node("b", b))];
        let cluster = ClusterNodes {
            nodes: &nodes,
            drivers: &drivers,
        };
        decide(&spec, &settings, None, cluster).unwrap().volumes
    };
    let restricted = |a: &[&str], b: &[&str]| decided(SecurityProfile::Restricted, a, b);
    assert_eq!(restricted(&[yandex], &[yandex]), Volumes::All);
    assert_eq!(restricted(&[yandex, ours], &[yandex]), Volumes::All);
    assert_eq!(
        restricted(&[yandex, ours], &[ours, yandex]),
        Volumes::Declared
    );
    assert_eq!(restricted(&[yandex], &[]), Volumes::None);
    assert_eq!(restricted(&[ours], &[ours]), Volumes::None);
    let root = decided(SecurityProfile::Root, &[yandex], &[yandex]);
    assert_eq!(root, Volumes::None);
}
