//! gRPC to the kubelet over a unix socket: HTTP/2 without the router, the limits and
//! the TLS of `tonic::transport`, which a socket that only root may use does not need.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulShutdown;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::socket::Socket;

/// How long the server waits after an accept that failed, as for want of descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// Answers the calls of everybody who connects to `socket` until `shutdown`, then
/// those under way.
pub(super) async fn serve<H, F>(socket: &Socket, shutdown: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection of the kubelet could not be accepted");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let connection = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service_fn(handler.clone()));
        // A caller that went away is no event.
        tokio::spawn(graceful.watch(connection));
    }
    graceful.shutdown().await;
}
