//! A proxy to the API server that delays watches of pods. Everything else passes unchanged.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Body as HttpBody, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::{Client, Error};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::World;
use super::environment::Environment;

/// A running proxy; dropping it ends it.
pub struct Late {
    /// The cluster through the proxy.
    pub environment: Environment,
    _kubeconfig: TempDir,
    _connections: JoinSet<()>,
}

impl Late {
    /// Starts a proxy that delays every event of a watch of pods by `lag`.
    pub async fn pods(world: &World, lag: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let environment = world.environment.edited(directory.path(), |cluster, user| {
            *cluster = json!({"server": format!("http://{address}")});
            *user = json!({});
        });
        let client = world.client.clone();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, client.clone(), lag));
            }
        });
        Self {
            environment,
            _kubeconfig: directory,
            _connections: connections,
        }
    }
}

async fn serve(connection: TcpStream, client: Client, lag: Duration) {
    let pass = service_fn(|request: Request<Incoming>| {
        let (client, watch) = (client.clone(), watches_pods(request.uri()));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(Error::HyperError)?;
            let response = client
                .send(Request::from_parts(head, body.to_bytes().into()))
                .await?;
            let lag = if watch { lag } else { Duration::ZERO };
            Ok::<_, Error>(response.map(|body| late(body, lag)))
        }
    });
    // A client may close its connection at any time.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(connection), pass)
        .await;
}

fn watches_pods(uri: &Uri) -> bool {
    let watch = uri
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    watch && uri.path().ends_with("/pods")
}

fn late(body: Body, lag: Duration) -> impl HttpBody<Data = Bytes, Error = Error> {
    let frames = BodyStream::new(body).map(move |frame| {
        let due = Instant::now() + lag;
        async move {
            sleep_until(due).await;
            frame
        }
    });
    StreamBody::new(frames.buffered(1024))
}
