//! A gRPC server on a unix socket for the kubelet. Only root may use the socket, so it needs
//! none of the router, limits and TLS of `tonic::transport`, and uses hyper directly.

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

/// Pause after a failed accept, for example when no descriptors are left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Answers calls on `socket` until `shutdown`. Then it answers the calls in progress and
/// returns.
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
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let connection = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service_fn(handler.clone()));
        // The result is ignored: a lost connection needs no action.
        tokio::spawn(graceful.watch(connection));
    }
    graceful.shutdown().await;
}
