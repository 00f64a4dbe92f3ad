//! Serves the router on a listener.

use axum::Router;
use axum::body::Body;
use hutch_process::server;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;

/// Serves `router` until `shutdown`, then waits for the requests in progress.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    shutdown: CancellationToken,
) {
    let service = ServiceBuilder::new()
        .map_request(|request: http::Request<Incoming>| request.map(Body::new))
        .service(router);
    server::serve(listener, TowerToHyperService::new(service), tls, shutdown).await;
}
