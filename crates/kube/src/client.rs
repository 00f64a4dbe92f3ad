//! Builds clients for the API server. The defaults of kube's own builder do harm here: Nagle's
//! algorithm stays on (a small request then takes 44 ms instead of 0.9), and failed requests
//! are repeated up to 15 times, which could run a command twice. Callers know which requests
//! may be repeated.

use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Timeout for opening a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for this long counts as dead.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client without retries and without Nagle's algorithm. Its connections notice a dead peer.
/// Requests have no deadline here: [`crate::apply`] sets one, and watches and exec streams have
/// none.
///
/// # Errors
/// When the configuration's certificates or credentials are unusable.
pub fn connect(config: &Config) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(SILENCE_TIMEOUT / 2));
    connector.set_tcp_user_timeout(Some(SILENCE_TIMEOUT));
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build::<_, Body>(config.rustls_https_connector_with_connector(connector)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        // Impersonation, if the kubeconfig asks for it.
        .layer(config.extra_headers_layer()?)
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
