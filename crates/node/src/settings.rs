//! The command line of `hutch-node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use hutch_api::CSI_DRIVER;
use hutch_telemetry::LogFormat;

/// Mounts the S3 buckets of the sandboxes on one node.
///
/// It runs as root in the host's pid namespace, once per node. Buckets come into
/// running sandboxes, and as volumes of a CSI driver. The cluster is the one that
/// KUBECONFIG names, or the one that this runs in.
#[derive(Clone, Debug, Parser)]
#[command(name = "hutch-node", version)]
pub struct NodeSettings {
    /// How log lines look; RUST_LOG says which there are.
    #[arg(long, value_enum, default_value_t, env = "HUTCH_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "127.0.0.1:9788", env = "HUTCH_OPS_LISTEN")]
    pub ops_listen: SocketAddr,
    /// Name of the node that this runs on, as Kubernetes has it. Default: the
    /// machine's host name.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Folder of the host for what has to outlive this process, such as which
    /// mounts there are. No other process may use it.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/run/hutch/node",
        env = "HUTCH_STATE_DIR"
    )]
    pub state_dir: PathBuf,
    /// The kubelet's folder, under the path that it has for the kubelet itself.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/var/lib/kubelet",
        env = "HUTCH_KUBELET_DIR"
    )]
    pub kubelet_dir: PathBuf,
    /// Be no CSI driver: buckets come into running sandboxes only, and Hutch's
    /// other parts do not see that this node can mount.
    #[arg(long, env = "HUTCH_NO_CSI")]
    pub no_csi: bool,
    /// Certificates (PEM) of authorities that S3 services are trusted by, besides the
    /// system's. In a pod, below /etc.
    #[arg(long, value_name = "FILE", env = "HUTCH_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// End every mount that an earlier process has left in --state-dir, in good order
    /// where nobody uses it, and do nothing else. For taking Hutch off a node.
    #[arg(long)]
    pub end_mounts: bool,
    /// Only this namespace's sandboxes have their buckets mounted. Default: all.
    #[arg(long, env = "HUTCH_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Buckets may have endpoints without TLS.
    #[arg(long, env = "HUTCH_ALLOW_HTTP_BUCKETS")]
    pub allow_http_buckets: bool,
    /// Name of the CSI driver that this is, by which the controllers know a node that
    /// can mount.
    #[arg(long, value_name = "NAME", default_value = CSI_DRIVER, env = "HUTCH_NODE_DRIVER")]
    pub node_driver: String,
}
