//! `hutch-node` in a pod, as a DaemonSet runs it: with mount and cgroup namespaces of
//! its own. Mounts outlive the pod, and the next one takes them over. The pod's `/usr`
//! is the machine's, for `s3fs` and the libraries of the binary under test.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::world::eventually;
use crate::support::{S3, World};
use hutch_api::{Mechanism, SandboxSpec, SecurityProfile};

const NAME: &str = "hutch-node";

fn mount(name: &str, path: &Path, propagation: &str) -> Value {
    json!({"name": name, "mountPath": path, "mountPropagation": propagation})
}

fn volume(name: &str, path: &Path) -> Value {
    json!({"name": name, "hostPath": {"path": path}})
}

/// The pod as the chart creates it, except for the content of its image.
async fn pod(world: &World, state: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_hutch")).with_file_name("hutch-node");
    let (programs, kubelet) = (program.parent().unwrap(), world.kubelet());
    let kubeconfig = &world.environment.kubeconfig;
    let arguments = [
        "--allow-http-buckets",
        "--ops-listen=127.0.0.1:0",
        &format!("--node-name={}", world.node_name().await),
        &format!("--state-dir={}", state.display()),
        &format!("--kubelet-dir={}", kubelet.display()),
        &format!("--node-driver={}", world.driver().await),
        &format!("--watch-namespace={}", world.namespace),
    ]
    .map(str::to_owned);
    let (usr, tmp) = (Path::new("/usr"), Path::new("/var/tmp"));
    let cgroups = Path::new("/sys/fs/cgroup");
    let none = "None";
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": {
        "hostPID": true,
        "hostNetwork": true,
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "node", "image": "python:3.11-slim",
            "command": [program], "args": arguments,
            "env": [
                {"name": "KUBECONFIG", "value": kubeconfig},
                {"name": "RUST_LOG", "value": "info,hutch=debug"},
            ],
            "securityContext": {"privileged": true},
            "volumeMounts": [
                mount("usr", usr, none), mount("tmp", tmp, none), mount("cgroups", cgroups, none),
                mount("programs", programs, none), mount("kubeconfig", kubeconfig, none),
                mount("state", state, none), mount("kubelet", &kubelet, "Bidirectional"),
            ],
        }],
        "volumes": [
            volume("usr", usr), volume("tmp", tmp), volume("cgroups", cgroups),
            volume("programs", programs),
            volume("kubeconfig", kubeconfig), volume("state", state),
            volume("kubelet", &kubelet),
        ],
    }})
    .to_string()
}

async fn start(world: &World, state: &Path) {
    world.apply(&pod(world, state).await).unwrap();
    let driver = world.driver().await;
    world.until_registered(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hutch_node_works_in_a_pod_and_mounts_outlive_it() {
    let world = World::new("node-pod").await;
    let cluster = world.environment.require_test_cluster();
    let s3 = S3::start_on(&cluster.host_address().to_string(), None).await;
    s3.put("data", "file", "text");
    let node = Node::of_others();
    start(&world, node.state()).await;
    let place = ["--operator-namespace", &world.namespace];
    let all = [&place[..], &["--allow-http-buckets"]].concat();
    let _hutch = world.hutch("controller", &all).await;
    world.keys(&s3).await;
    let ways = [
        ("root", SecurityProfile::Root, Mechanism::Live),
        ("user", SecurityProfile::Restricted, Mechanism::Csi),
    ];
    for (name, profile, _) in ways {
        let spec = SandboxSpec {
            buckets: vec![s3.bucket("data", "/mnt/data")],
            security_profile: Some(profile),
            ..Default::default()
        };
        world.create(name, spec).await;
    }
    let mut pods: Vec<Pod> = Vec::new();
    for (name, _, mechanism) in ways {
        world.ready(name).await;
        let status = world.mounted(name, "data").await;
        assert_eq!(status.mechanism, Some(mechanism));
        let script = format!("cat /mnt/data/file; echo {name} > /mnt/data/{name}");
        assert_eq!(world.inside(name, &script).unwrap(), "text");
        assert_eq!(s3.get("data", name).unwrap(), format!("{name}\n"));
        pods.push(world.pods().get(name).await.unwrap());
    }
    let mounters = node.mounters();
    assert_eq!(mounters.len(), 2);
    let own = world.pods().get(NAME).await.unwrap().uid().unwrap();
    for mounter in &mounters {
        let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", mounter.pid)).unwrap();
        assert!(!cgroups.contains(&own), "they end with the pod: {cgroups}");
    }

    let at_once = DeleteParams::default();
    world.pods().delete(NAME, &at_once).await.unwrap();
    world.gone::<Pod>(NAME).await;
    assert!(mounters.iter().all(|mounter| mounter.runs()));
    for (name, ..) in ways {
        let script = format!("cat /mnt/data/{name}; echo after > /mnt/data/after-{name}");
        assert_eq!(world.inside(name, &script).unwrap(), name);
    }
    start(&world, node.state()).await;
    eventually("they are taken over", async || {
        let log = world.kubectl(&["logs", NAME], "").ok()?;
        (log.matches("took over a mount").count() == 2).then_some(())
    })
    .await;
    for (name, ..) in ways {
        world.delete(name).await;
    }
    eventually("nothing is left", async || {
        let mut left = world.on_the_host(&pods);
        left.extend(node.left());
        left.is_empty().then_some(())
    })
    .await;
}
