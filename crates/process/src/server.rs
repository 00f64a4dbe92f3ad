//! An HTTP/1.1 listener, with or without TLS, with limits that `axum::serve` does not have:
//! on the time and the size of a request's head, on the time in which a client reads nothing
//! of its answer, and on the number of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::write_timeout::WriteTimeout;

/// Most connections at the same time. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// The longest time for a request's head, and for the TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time for requests in progress to end after the shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest time in which a client may read nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The buffer of one connection, which also limits the head of a request. Every client that
/// can connect can occupy so much memory.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The pause after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves requests with `service` until `shutdown`. Then waits for those in progress, at most
/// [`DRAIN_TIMEOUT`].
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    tls: Option<TlsAcceptor>,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // For example, the process has no file descriptor left. The next accept
                // would fail too.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let stream = WriteTimeout::new(stream, WRITE_TIMEOUT);
        let (service, tls, watcher) = (service.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            match tls {
                None => connection(stream, service, watcher).await,
                // A client that fails or delays the handshake is not logged.
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                        connection(stream, service, watcher).await;
                    }
                }
            }
            drop(slot);
        });
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "requests were still in progress {DRAIN_TIMEOUT:?} after the shutdown began"
        );
    }
}

/// Answers the requests of one connection.
async fn connection<T, S, B>(stream: T, service: S, watcher: Watcher)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that disconnects is not logged.
    let _ = watcher.watch(connection).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await;
    let slot = slot.map_err(std::io::Error::other)?;
    let (stream, _): (_, SocketAddr) = listener.accept().await?;
    stream.set_nodelay(true)?;
    // Otherwise the kernel keeps the unread answer long after this process has closed the
    // connection.
    SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
    Ok((stream, slot))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::DefaultBodyLimit;
    use axum::routing::{get, post};
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    /// A connection to a server with these routes and that write timeout, and the task that
    /// serves it.
    async fn connected(
        router: Router,
        write_timeout: Duration,
    ) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let slots = Arc::new(Semaphore::new(1));
        let (stream, _slot) = accept(&listener, &slots).await.unwrap();
        let served = tokio::spawn(async move {
            let graceful = GracefulShutdown::new();
            let stream = WriteTimeout::new(stream, write_timeout);
            let service = tower::ServiceBuilder::new()
                .map_request(|request: Request<Incoming>| request.map(axum::body::Body::new))
                .service(router);
            let service = TowerToHyperService::new(service);
            connection(stream, service, graceful.watcher()).await;
        });
        (client.unwrap(), served)
    }

    #[tokio::test]
    async fn a_client_that_never_reads_loses_its_connection() {
        let large = Router::new().route("/", get(|| async { "x".repeat(1 << 20) }));
        let (client, served) = connected(large, Duration::from_millis(200)).await;
        let (unread, mut asking) = client.into_split();
        // Until the server has closed the connection.
        let ask = async {
            while asking
                .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                .await
                .is_ok()
            {}
        };
        let both = async { tokio::join!(served, ask) };
        let (ended, ()) = timeout(TEST_TIMEOUT, both).await.unwrap();
        ended.unwrap();
        drop(unread);
    }

    /// The status line and the body of the answer to these bytes.
    async fn answer(request: &[u8]) -> String {
        let router = Router::new()
            .route(
                "/",
                post(|body: String| async move { body.len().to_string() }),
            )
            .layer(DefaultBodyLimit::disable());
        let (mut client, _served) = connected(router, WRITE_TIMEOUT).await;
        client.write_all(request).await.unwrap();
        let mut text = String::new();
        let read = client.read_to_string(&mut text);
        timeout(TEST_TIMEOUT, read).await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", head.lines().next().unwrap())
    }

    #[tokio::test]
    async fn the_head_of_a_request_is_limited_and_its_body_is_not() {
        let request = |id: usize, body: usize| {
            let (id, content) = ("x".repeat(id), "y".repeat(body));
            let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close";
            format!("{head}\r\ncontent-length: {body}\r\nx-sandbox-id: {id}\r\n\r\n{content}")
        };
        let id = answer(request(4096, 0).as_bytes()).await;
        assert_eq!(id, "HTTP/1.1 200 OK 0");
        let body = answer(request(1, 3 << 20).as_bytes()).await;
        assert_eq!(body, "HTTP/1.1 200 OK 3145728");
        let endless = answer(&request(MAX_HEAD_BYTES, 0).as_bytes()[..MAX_HEAD_BYTES]).await;
        assert_eq!(endless, "HTTP/1.1 431 Request Header Fields Too Large ");
    }
}
