//! The components: their names, their order and their command lines.
//! All of them run in the cluster's network namespace, so every cluster uses the default
//! ports. `config` writes the configuration files.

use std::time::Duration;

use crate::build::Parts;
use crate::layout::Layout;
use crate::network::Slot;
use crate::pki::NODE;
use crate::process::Spec;

/// One process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Component {
    /// The store behind the API server.
    Etcd,
    /// The container runtime.
    Containerd,
    /// The API server.
    KubeApiserver,
    /// The controllers that come with Kubernetes.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// Routes the addresses of Services to pods.
    KubeProxy,
    /// The agent of the node.
    Kubelet,
}

impl Component {
    /// All of them, in the order in which they are started.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::Containerd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::KubeProxy,
        Self::Kubelet,
    ];

    /// The name of its program, log and record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Containerd => "containerd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
            Self::Kubelet => "kubelet",
        }
    }

    /// How long it may take to end after SIGTERM. kube-apiserver would wait for its last
    /// watch; its acknowledged writes are already in etcd.
    pub(crate) fn grace(self) -> Duration {
        Duration::from_secs(5)
    }

    /// True if it can start without the API server. The others exit or back off if the API
    /// server does not answer yet.
    pub(crate) fn starts_first(self) -> bool {
        matches!(self, Self::Etcd | Self::Containerd | Self::KubeApiserver)
    }

    /// The command line and the environment of the component.
    pub(crate) fn spec(self, layout: &Layout, slot: Slot, parts: &Parts) -> Spec {
        let spec = Spec::new(
            "/usr/bin/nsenter",
            layout.log(self.name()),
            layout.record(self.name()),
        )
        .arg(format!("--net={}", slot.namespace().display()))
        .arg("--");
        // A fixed environment, without the caller's proxy and locale.
        let spec = spec
            .env("PATH", parts.path())
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            // On a small machine CPU is scarcer than memory. With the default, a quarter of
            // the API server's work for a write is garbage collection.
            .env("GOGC", "400");
        if self == Self::Containerd {
            return spec
                .arg(parts.containerd())
                .arg("--config")
                .arg(layout.config("containerd.toml"));
        }
        let flags = match self {
            Self::Etcd => etcd(layout),
            Self::KubeApiserver => api_server(layout, slot),
            Self::KubeControllerManager => controller_manager(layout),
            Self::KubeScheduler => scheduler(layout),
            Self::KubeProxy => vec![format!(
                "--config={}",
                layout.config("kube-proxy.json").display()
            )],
            Self::Kubelet => kubelet(layout, slot),
            Self::Containerd => Vec::new(),
        };
        spec.arg(&parts.kubernetes).arg(self.name()).args(flags)
    }
}

fn etcd(layout: &Layout) -> Vec<String> {
    vec![
        format!("--data-dir={}", layout.data("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // A test cluster need not survive a power failure.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server(layout: &Layout, slot: Slot) -> Vec<String> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--secure-port=6443".into(),
        "--bind-address=0.0.0.0".into(),
        format!("--advertise-address={}", slot.node()),
        format!("--service-cluster-ip-range={}", slot.services()),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", pki("kube-apiserver.key")),
        format!("--service-account-key-file={}", pki("accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!(
            "--kubelet-client-certificate={}",
            pki("kube-apiserver-kubelet-client.crt")
        ),
        format!(
            "--kubelet-client-key={}",
            pki("kube-apiserver-kubelet-client.key")
        ),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged".into(),
        "--event-ttl=2h".into(),
        format!(
            "--audit-policy-file={}",
            layout.config("audit.json").display()
        ),
        format!("--audit-log-path={}", layout.log("audit").display()),
        "--audit-log-mode=batch".into(),
    ]
}

fn controller_manager(layout: &Layout) -> Vec<String> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    vec![
        format!(
            "--kubeconfig={}",
            layout.kubeconfig_of("kube-controller-manager").display()
        ),
        "--controllers=*".into(),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--service-account-private-key-file={}", pki("accounts.key")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        "--enable-hostpath-provisioner".into(),
        "--pvclaimbinder-sync-period=1s".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}

fn scheduler(layout: &Layout) -> Vec<String> {
    vec![format!(
        "--config={}",
        layout.config("kube-scheduler.json").display()
    )]
}

fn kubelet(layout: &Layout, slot: Slot) -> Vec<String> {
    vec![
        format!("--config={}", layout.config("kubelet.json").display()),
        format!(
            "--kubeconfig={}",
            layout.kubeconfig_of("kubelet-client").display()
        ),
        format!("--root-dir={}", layout.kubelet().display()),
        format!("--cert-dir={}", layout.kubelet().join("pki").display()),
        format!("--node-ip={}", slot.node()),
        format!("--hostname-override={NODE}"),
    ]
}
