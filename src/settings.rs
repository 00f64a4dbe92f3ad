//! The operator's settings, from the command line or the environment, with their defaults.
//! All of them are checked before anything starts.

mod access;
mod database;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use access::{Access, KeyRing};
pub use database::{Database, Secret};
use hutch_api::{CSI_DRIVER, SecurityProfile};
use hutch_core::deadlines;
use hutch_telemetry::LogFormat;

/// Settings of every role.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Format of log lines. RUST_LOG selects which lines are written.
    #[arg(long, value_enum, default_value_t, env = "HUTCH_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "127.0.0.1:9787", env = "HUTCH_OPS_LISTEN")]
    pub ops_listen: SocketAddr,
    /// OpenTelemetry collector that receives traces over gRPC, such as
    /// http://collector:4317. Default: no traces.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// The facade's own namespace. It creates sandboxes there, and projects use it. Default:
    /// the kubeconfig's.
    #[arg(long, env = "HUTCH_NAMESPACE")]
    pub namespace: Option<String>,
    /// Buckets.
    #[command(flatten)]
    pub buckets: Buckets,
    /// The database of projects.
    #[command(flatten)]
    pub database: Database,
}

/// Settings of buckets. They must be the same for every role.
#[derive(Clone, Debug, Args)]
pub struct Buckets {
    /// Allow endpoints of buckets without TLS.
    #[arg(long, env = "HUTCH_ALLOW_HTTP_BUCKETS")]
    pub allow_http_buckets: bool,
    /// Namespace of Hutch's own Secrets: API keys and S3 credentials. It must have no
    /// sandboxes. Default: the kubeconfig's.
    #[arg(long, value_name = "NAMESPACE", env = "HUTCH_OPERATOR_NAMESPACE")]
    pub operator_namespace: Option<String>,
    /// Name of the CSI driver of `hutch-node`. A node that can mount is recognized by it.
    #[arg(long, value_name = "NAME", default_value = CSI_DRIVER, env = "HUTCH_NODE_DRIVER")]
    pub node_driver: String,
}

/// Settings of the REST facade.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "REST facade")]
pub struct Facade {
    /// Address of the REST facade.
    #[arg(long, default_value = "127.0.0.1:8787", env = "HUTCH_LISTEN")]
    pub listen: SocketAddr,
    /// Most sandboxes in one namespace.
    #[arg(long, default_value_t = 250, env = "HUTCH_MAX_SANDBOXES")]
    pub max_sandboxes: usize,
    /// Most bytes of each of a command's stdout and stderr: a number, or one with Ki, Mi or
    /// Gi. An answer may need 24 times as much memory.
    #[arg(long, default_value = "4Mi", value_parser = bytes, env = "HUTCH_MAX_OUTPUT")]
    pub max_output: u64,
    /// Size of the largest file that can be read: a number, or one with Ki, Mi or Gi.
    #[arg(long, default_value = "32Mi", value_parser = bytes, env = "HUTCH_MAX_FILE")]
    pub max_file: u64,
    /// Images of the sandboxes that `/projects/create` creates, by language.
    #[arg(
        long = "project-image",
        value_name = "LANGUAGE=IMAGE",
        value_parser = pair,
        value_delimiter = ',',
        default_value = "python=python:3.11-slim,go=golang:1.24,java=eclipse-temurin:21-jdk",
        env = "HUTCH_PROJECT_IMAGES"
    )]
    pub project_images: Vec<(String, String)>,
    /// Address of the ports of those sandboxes.
    #[arg(long, value_enum, default_value_t, env = "HUTCH_PROJECT_PORTS")]
    pub project_ports: ProjectPorts,
    /// Domains that `/projects/configure-domain` may use. Default: any.
    #[arg(long = "domain", value_delimiter = ',', env = "HUTCH_DOMAINS")]
    pub domains: Vec<String>,
    /// Class of the Ingresses that `/projects/configure-domain` creates. Default: the
    /// cluster's.
    #[arg(long, env = "HUTCH_INGRESS_CLASS")]
    pub ingress_class: Option<String>,
    /// Secret with the certificate of those Ingresses. Default: no TLS.
    #[arg(long, env = "HUTCH_INGRESS_TLS_SECRET")]
    pub ingress_tls_secret: Option<String>,
    /// Timeout of `/execute` if the request sets none.
    #[arg(long, default_value = "4m", value_parser = duration, env = "HUTCH_EXECUTE_TIMEOUT")]
    pub execute_timeout: Duration,
    /// The longest time that a request waits for its sandbox. Known clients give up after
    /// 30 s.
    #[arg(long, default_value = "25s", value_parser = duration, env = "HUTCH_READY_TIMEOUT")]
    pub ready_timeout: Duration,
    /// Access key ID for mounts whose request has no credentials. Use the variable: every
    /// user of the machine can see arguments.
    #[arg(
        long,
        env = "AWS_ACCESS_KEY_ID",
        hide_env_values = true,
        value_name = "ID",
        requires = "aws_secret_access_key"
    )]
    pub aws_access_key_id: Option<Secret>,
    /// Secret access key for such mounts. Use the variable.
    #[arg(
        long,
        env = "AWS_SECRET_ACCESS_KEY",
        hide_env_values = true,
        value_name = "KEY",
        requires = "aws_access_key_id"
    )]
    pub aws_secret_access_key: Option<Secret>,
    /// The static `hutch-agent`, for pods with the label `hutch.dev/attach`. Default: the one
    /// beside this program, or `/hutch-agent`.
    #[arg(long, value_name = "FILE", env = "HUTCH_AGENT_BINARY")]
    pub agent_binary: Option<PathBuf>,
    /// Most open channels to sandboxes. The least recently used one is closed first.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..), env = "HUTCH_MAX_CHANNELS")]
    pub max_channels: u32,
    /// A channel that is unused for this time is closed.
    #[arg(long, default_value = "5m", value_parser = duration, env = "HUTCH_CHANNEL_IDLE")]
    pub channel_idle: Duration,
    /// Authentication and limits.
    #[command(flatten)]
    pub access: Access,
}

/// Settings of the controllers.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Controllers")]
pub struct Controller {
    /// Reconcile the resources of this namespace only. Default: all namespaces.
    #[arg(long, env = "HUTCH_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Image of sandboxes that set none.
    #[arg(long, default_value = "python:3.11-slim", env = "HUTCH_DEFAULT_IMAGE")]
    pub default_image: String,
    /// Image that contains the agent.
    #[arg(long, default_value = concat!("hutch.dev/hutch:", env!("CARGO_PKG_VERSION")), env = "HUTCH_AGENT_IMAGE")]
    pub agent_image: String,
    /// The way in which the agent reaches a pod.
    #[arg(long, value_enum, default_value_t, env = "HUTCH_AGENT_DELIVERY")]
    pub agent_delivery: AgentDelivery,
    /// Security profile of sandboxes that set none.
    #[arg(long, value_enum, default_value_t, env = "HUTCH_DEFAULT_PROFILE")]
    pub default_profile: DefaultProfile,
    /// Limits of the sandboxes in a namespace that set none, such as acme=500m/256Mi. Other
    /// namespaces have 2/1Gi.
    #[arg(
        long = "size",
        value_name = "NAMESPACE=CPU/MEMORY",
        value_parser = size,
        value_delimiter = ',',
        env = "HUTCH_SIZES"
    )]
    pub sizes: Vec<(String, Size)>,
    /// CSI driver for buckets of Restricted sandboxes, which are volumes: that of
    /// `hutch-node`, or ru.yandex.s3.csi if the cluster runs k8s-csi-s3.
    #[arg(long, value_name = "NAME", default_value = CSI_DRIVER, env = "HUTCH_CSI_DRIVER")]
    pub csi_driver: String,
    /// Namespace of the leader's lease. Default: the kubeconfig's.
    #[arg(long, env = "HUTCH_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Run the controllers without a lease. Use it only if no other Hutch can run.
    #[arg(long, env = "HUTCH_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
}

/// The way in which the agent reaches a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AgentDelivery {
    /// An image volume if the API server and the nodes support it, else an init container.
    #[default]
    Auto,
    /// A read-only volume of the agent's image.
    Image,
    /// An init container that copies it.
    Init,
}

/// Address of the ports of a project's sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProjectPorts {
    /// Ports of the nodes.
    #[default]
    Node,
    /// The sandbox's Service, which can be reached inside the cluster only.
    Cluster,
}

/// Security profile of sandboxes that set none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DefaultProfile {
    /// Root if the nodes have user namespaces, else Restricted.
    #[default]
    Auto,
    /// uid 0 in a user namespace.
    Root,
    /// uid 1000 without capabilities.
    Restricted,
}

impl From<DefaultProfile> for Option<SecurityProfile> {
    fn from(profile: DefaultProfile) -> Self {
        match profile {
            DefaultProfile::Auto => None,
            DefaultProfile::Root => Some(SecurityProfile::Root),
            DefaultProfile::Restricted => Some(SecurityProfile::Restricted),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    deadlines::parse(text)
        .ok_or_else(|| "a whole number with s, m or h is needed, such as 25s".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((language, image)) if !language.is_empty() && !image.is_empty() => {
            Ok((language.to_owned(), image.to_owned()))
        }
        _ => Err("a language and an image are needed, such as go=golang:1.24".to_owned()),
    }
}

/// Limits of a sandbox, as quantities of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Cores.
    pub cpu: String,
    /// Bytes.
    pub memory: String,
}

fn size(text: &str) -> Result<(String, Size), String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let read = || {
        let (namespace, size) = text.split_once('=')?;
        let (cpu, memory) = size.split_once('/')?;
        let cores = digits(cpu.strip_suffix('m').unwrap_or(cpu));
        let bytes = ["Ki", "Mi", "Gi"].iter();
        let mut bytes = bytes.filter_map(|unit| memory.strip_suffix(unit));
        let (cpu, memory) = (cpu.to_owned(), memory.to_owned());
        (!namespace.is_empty() && cores && bytes.any(digits))
            .then(|| (namespace.to_owned(), Size { cpu, memory }))
    };
    read().ok_or_else(|| "a namespace and a size are needed, such as acme=500m/256Mi".to_owned())
}

fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text
        .strip_suffix('i')
        .map(|t| t.split_at(t.len().saturating_sub(1)))
    {
        None => (text, 0),
        Some((digits, "K")) => (digits, 10),
        Some((digits, "M")) => (digits, 20),
        Some((digits, "G")) => (digits, 30),
        Some(_) => return Err("the units are Ki, Mi and Gi".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|n| (1024..=1 << 30).contains(n))
        .ok_or_else(|| "a size between 1Ki and 1Gi is needed, such as 32Mi".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_namespace_cores_and_bytes() {
        let (namespace, small) = size("acme=500m/256Mi").unwrap();
        assert_eq!((namespace.as_str(), small.cpu.as_str()), ("acme", "500m"));
        assert_eq!(small.memory, "256Mi");
        for bad in [
            "acme",
            "=1/1Gi",
            "acme=1",
            "acme=/1Gi",
            "acme=1/Gi",
            "acme=1/1",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_bytes_have_binary_units_and_limits() {
        assert_eq!(bytes("32Mi"), Ok(32 << 20));
        assert_eq!(bytes("2048"), Ok(2048));
        for nonsense in ["", "i", "Mi", "1Ti", "12", "2Gi", "-1Mi", "1.5Mi", "é"] {
            assert!(bytes(nonsense).is_err(), "{nonsense}");
        }
    }
}
