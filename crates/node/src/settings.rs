//! The command line of `hutch-node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use hutch_api::CSI_DRIVER;
use hutch_telemetry::LogFormat;

/// Mounts the S3 buckets of the sandboxes on one node.
///
/// It runs as root in the host's PID namespace, once per node. It mounts buckets into
/// running sandboxes, and as a CSI driver it makes them volumes of pods. It uses the cluster
/// that KUBECONFIG names, or the cluster in which it runs.
#[derive(Clone, Debug, Parser)]
#[command(name = "hutch-node", version)]
pub struct NodeSettings {
    /// Format of log lines. RUST_LOG selects which lines are written.
    #[arg(long, value_enum, default_value_t, env = "HUTCH_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "127.0.0.1:9788", env = "HUTCH_OPS_LISTEN")]
    pub ops_listen: SocketAddr,
    /// Kubernetes' name of the node on which this runs. Default: the machine's host name.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Directory of the host for data that must outlive this process, such as the list of
    /// mounts. No other process may use it.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/run/hutch/node",
        env = "HUTCH_STATE_DIR"
    )]
    pub state_dir: PathBuf,
    /// The kubelet's directory, at the same path as for the kubelet itself.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/lib/kubelet",
        env = "HUTCH_KUBELET_DIR"
    )]
    pub kubelet_dir: PathBuf,
    /// Do not serve as a CSI driver. Buckets are then mounted into running sandboxes only,
    /// and Hutch's other parts do not see that this node can mount.
    #[arg(long, env = "HUTCH_NO_CSI")]
    pub no_csi: bool,
    /// Certificates (PEM) of authorities that are trusted for S3 services beside the
    /// system's. In a pod the file must be below /etc.
    #[arg(long, value_name = "FILE", env = "HUTCH_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// End every mount that an earlier process has left in --state-dir, and exit. Unused
    /// mounts are ended cleanly. Use it to remove Hutch from a node.
    #[arg(long)]
    pub end_mounts: bool,
    /// Mount the buckets of this namespace's sandboxes only. Default: all namespaces.
    #[arg(long, env = "HUTCH_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Allow endpoints without TLS.
    #[arg(long, env = "HUTCH_ALLOW_HTTP_BUCKETS")]
    pub allow_http_buckets: bool,
    /// Name of this CSI driver. The controllers recognize a node that can mount by it.
    #[arg(long, value_name = "NAME", default_value = CSI_DRIVER, env = "HUTCH_NODE_DRIVER")]
    pub node_driver: String,
}
