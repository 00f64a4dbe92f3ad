//! Clients for the API server. One way to build them, because what kube's own
//! builder leaves at its defaults hurts here: Nagle's algorithm stays on (a
//! small request then takes 44 ms instead of 0.9) and failed requests are sent
//! again, up to 15 times, which for an exec would run a command twice. Retries
//! belong to the callers, who know what may be repeated.

use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// How long a TCP connection to the API server may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a peer that acknowledges nothing is believed to be alive.
const SILENCE: Duration = Duration::from_secs(30);

/// The configuration of the cluster to work on: of the pod that this runs in,
/// else the kubeconfig that `KUBECONFIG` or the home folder names.
///
/// # Errors
/// When neither is there, or cannot be read.
pub async fn infer() -> Result<Config, kube::config::InferConfigError> {
    Config::infer().await
}

/// A client without retries and without Nagle's algorithm, whose connections
/// notice a dead peer. It sets no deadline on a request: every caller has its
/// own (`cluster::apply`), and watches and exec streams have none.
///
/// # Errors
/// When the configuration's certificates or credentials cannot be used.
pub fn connect(config: &Config) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(SILENCE / 2));
    connector.set_tcp_user_timeout(Some(SILENCE));
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build::<_, Body>(config.rustls_https_connector_with_connector(connector)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        // Impersonation, where the kubeconfig asks for it.
        .layer(config.extra_headers_layer()?)
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
