//! The configuration files of the components, written before each start. A comment gives
//! the reason for each unusual value.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use crate::build::Parts;
use crate::layout::Layout;
use crate::network::Slot;
use crate::options::Profile;
use crate::pki::NODE;
use crate::versions::PAUSE_IMAGE;

/// The directory of Debian's CNI plugins.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Writes all of them.
pub(crate) fn write(layout: &Layout, slot: Slot, profile: Profile, parts: &Parts) -> Result<()> {
    let containerd = match profile {
        Profile::Current => containerd(layout, parts),
        Profile::Older => containerd_older(layout, parts),
    };
    fs::write(layout.config("containerd.toml"), containerd)?;
    fs::write(
        layout.cni_config().join("10-hutch.conflist"),
        pretty(&cni(layout, slot)),
    )?;
    fs::write(
        layout.config("kubelet.json"),
        pretty(&kubelet(layout, slot)),
    )?;
    fs::write(
        layout.config("kube-proxy.json"),
        pretty(&kube_proxy(layout, slot)),
    )?;
    fs::write(
        layout.config("kube-scheduler.json"),
        pretty(&scheduler(layout)),
    )?;
    Ok(fs::write(layout.config("audit.json"), pretty(&audit()))?)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// containerd 2. `restrict_oom_score_adj`: without CAP_SYS_RESOURCE, runc fails to set the
/// score that the CRI requests. NRI is off because all clusters would share its socket path.
fn containerd(layout: &Layout, parts: &Parts) -> String {
    format!(
        r#"version = 3
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.nri.v1.nri"]
imports = []

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"

[plugins."io.containerd.metadata.v1.bolt"]
  no_sync = true

[plugins."io.containerd.shim.v1.manager"]
  socket_dir = "{run}/s"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_PLUGINS}"]
  conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  Root = "{run}/runc"
"#,
        root = layout.data("containerd").display(),
        state = layout.containerd_state().display(),
        socket = layout.containerd_socket().display(),
        run = layout.run.display(),
        cni = layout.cni_config().display(),
        runc = parts.runc().display(),
    )
}

/// The same for containerd 1.6, in its configuration format.
fn containerd_older(layout: &Layout, parts: &Parts) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = []
imports = []

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{cni}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  Root = "{run}/runc"
"#,
        root = layout.data("containerd").display(),
        state = layout.containerd_state().display(),
        socket = layout.containerd_socket().display(),
        run = layout.run.display(),
        cni = layout.cni_config().display(),
        runc = parts.runc().display(),
    )
}

fn cni(layout: &Layout, slot: Slot) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": slot.name(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": layout.data("cni"),
                    "ranges": [[{"subnet": slot.pods()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(layout: &Layout, slot: Slot) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": layout.pki("kubelet.crt"),
        "tlsPrivateKeyFile": layout.pki("kubelet.key"),
        // A cgroup per cluster, as clusters run side by side. All processes that are left in
        // it when the cluster is removed belong to that cluster.
        "cgroupRoot": format!("/{}", slot.name()),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        // A developer's disk is often nearly full.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        // The images cannot be pulled again, so they are never collected.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "podPidsLimit": 1024,
        // There is no name server. The node refuses the connection, so a look-up fails at
        // once. Without any address every pod would get a warning event.
        "resolvConf": "",
        "clusterDNS": [slot.node()],
        "clusterDomain": "cluster.local",
        "podLogsDir": layout.root.join("pod-logs"),
        "volumePluginDir": layout.kubelet().join("volumeplugins"),
        "serializeImagePulls": false,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 200,
        "eventBurst": 400,
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
    })
}

fn kube_proxy(layout: &Layout, slot: Slot) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": layout.kubeconfig_of("kube-proxy")},
        "mode": "iptables",
        "clusterCIDR": slot.pods(),
        "hostnameOverride": NODE,
        "oomScoreAdj": 0,
        // The connection tracking limits apply to the whole machine, not to a namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms"},
    })
}

fn scheduler(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": layout.kubeconfig_of("kube-scheduler"), "qps": 200, "burst": 400},
        "leaderElection": {"leaderElect": false},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 2,
    })
}

/// The audit log has every write, without bodies: tests count writes by user and time. For
/// ServiceAccounts it has reads, too: tests compare them with the granted rights.
fn audit() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager"]},
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        ],
    })
}
