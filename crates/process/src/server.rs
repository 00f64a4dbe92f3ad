//! The listener: HTTP/1.1, over TLS where that is wanted, with the limits that
//! `axum::serve` leaves out. A header that does not come in time or is too long, an
//! answer that nobody reads and a connection past the cap are refused here.

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

use crate::patience::Patient;

/// Connections at once.
const CONNECTIONS: usize = 4096;
/// How long a request's head may take, and the handshake of TLS.
const HEAD: Duration = Duration::from_secs(10);
/// How long requests in progress may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(20);
/// How long a client may take nothing of what it is sent.
const STALL: Duration = Duration::from_secs(30);
/// What one connection buffers, and so the longest head of a request, in bytes:
/// everybody who can connect can have that much.
const BUFFER: usize = 64 << 10;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves requests by `service` until `shutdown`, then lets those in progress end.
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
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, say: the next accept would fail as well.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let stream = Patient::new(stream, STALL);
        let (service, tls, watcher) = (service.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            match tls {
                None => connection(stream, service, watcher).await,
                // Whoever speaks no TLS, or not soon, is no event either.
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEAD, tls.accept(stream)).await {
                        connection(stream, service, watcher).await;
                    }
                }
            }
            drop(slot);
        });
    }
    drop(listener);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in progress {DRAIN:?} after the shutdown began");
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
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    // A client that went away is no event.
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
    // Else the kernel keeps an answer for a client that does not take it long after
    // the connection was given up.
    SockRef::from(&stream).set_tcp_user_timeout(Some(STALL))?;
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

    /// A connection to a server with these routes and that patience, and the task
    /// that serves it.
    async fn connected(
        router: Router,
        patience: Duration,
    ) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let slots = Arc::new(Semaphore::new(1));
        let (stream, _slot) = accept(&listener, &slots).await.unwrap();
        let served = tokio::spawn(async move {
            let graceful = GracefulShutdown::new();
            let stream = Patient::new(stream, patience);
            let service = tower::ServiceBuilder::new()
                .map_request(|request: Request<Incoming>| request.map(axum::body::Body::new))
                .service(router);
            let service = TowerToHyperService::new(service);
            connection(stream, service, graceful.watcher()).await;
        });
        (client.unwrap(), served)
    }

    #[tokio::test]
    async fn a_client_that_asks_and_never_reads_loses_its_connection() {
        let large = Router::new().route("/", get(|| async { "x".repeat(1 << 20) }));
        let (client, served) = connected(large, Duration::from_millis(200)).await;
        let (unread, mut asking) = client.into_split();
        // Until the server takes no more, or has gone.
        let ask = async {
            while asking
                .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                .await
                .is_ok()
            {}
        };
        let (ended, ()) = tokio::join!(served, ask);
        ended.unwrap();
        drop(unread);
    }

    /// The first line of what is answered to these bytes.
    async fn told(request: &[u8]) -> String {
        let router = Router::new()
            .route(
                "/",
                post(|body: String| async move { body.len().to_string() }),
            )
            .layer(DefaultBodyLimit::disable());
        let (mut client, _served) = connected(router, STALL).await;
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", head.lines().next().unwrap())
    }

    #[tokio::test]
    async fn a_head_is_as_long_as_a_buffer_at_most_and_a_body_as_long_as_it_likes() {
        let request = |id: usize, body: usize| {
            let (id, content) = ("x".repeat(id), "y".repeat(body));
            let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close";
            format!("{head}\r\ncontent-length: {body}\r\nx-sandbox-id: {id}\r\n\r\n{content}")
        };
        let id = told(request(4096, 0).as_bytes()).await;
        assert_eq!(id, "HTTP/1.1 200 OK 0");
        let body = told(request(1, 3 << 20).as_bytes()).await;
        assert_eq!(body, "HTTP/1.1 200 OK 3145728");
        let endless = told(&request(BUFFER, 0).as_bytes()[..BUFFER]).await;
        assert_eq!(endless, "HTTP/1.1 431 Request Header Fields Too Large ");
    }
}
