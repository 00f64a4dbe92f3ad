//! One channel to one agent: HTTP/2 over an exec stream, with gRPC clients on top.
//! All users share it. A lost channel never reconnects by itself; the pool opens a
//! new one.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hutch_wire::v1::agent_client::AgentClient;
use hutch_wire::v1::files_client::FilesClient;
use hutch_wire::v1::search_client::SearchClient;
use hutch_wire::v1::{ActivityReply, ActivityRequest, ExecInput, ExecOutput, HelloRequest};
use hutch_wire::{PROTOCOL, compatible, limits, paths};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Client;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, body::Body};
use tower::Service;

use super::socket::{self, EndingCell, ExecSocket};
use hutch_core::interfaces::PodRef;

/// Time for the exec and the agent's first answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why a channel could not be opened. In all cases no command has been sent.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The API server or the kubelet did not start `hutch-agent connect`.
    #[error("exec in the pod failed: {0}")]
    Exec(#[source] kube::Error),
    /// The exec started but the agent did not answer.
    #[error("the agent does not answer: {0}")]
    Hello(String),
    /// The agent speaks an incompatible protocol.
    #[error(
        "the sandbox's agent {version} speaks protocol {protocol}, this service {PROTOCOL}: restart the sandbox"
    )]
    Protocol {
        /// Protocol version of the agent.
        protocol: u32,
        /// Release of the agent.
        version: String,
    },
    /// The pod is gone. A new pod of the same name may belong to somebody else.
    #[error("the pod is gone")]
    Gone,
    /// This is an attached pod, and no agent can run in its container as it is.
    #[error("{0}")]
    NoAgent(String),
}

impl OpenError {
    /// True if the pod or its agent no longer exists.
    pub fn gone(&self) -> bool {
        match self {
            Self::Gone => true,
            Self::Exec(kube::Error::Api(status)) => status.code == 404,
            _ => false,
        }
    }
}

/// An open channel. Clones share it.
#[derive(Clone)]
pub struct Agent {
    client: AgentClient<Transport>,
    files: FilesClient<Transport>,
    search: SearchClient<Transport>,
    connection: http2::SendRequest<Body>,
    instance: String,
    ending: EndingCell,
}

/// Opens the channel to a pod's agent and greets it.
///
/// # Errors
/// See [`OpenError`]. After any of them the call may be repeated.
pub async fn open(client: &Client, pod: &PodRef) -> Result<Agent, OpenError> {
    let opened = async {
        let socket = socket::exec(client, pod, &[paths::AGENT, "connect"]).await;
        greet(socket.map_err(OpenError::Exec)?).await
    };
    tokio::time::timeout(OPEN_TIMEOUT, opened)
        .await
        .unwrap_or_else(|_| {
            Err(OpenError::Hello(format!(
                "no answer within {OPEN_TIMEOUT:?}"
            )))
        })
}

/// Starts HTTP/2 on an exec stream and greets the agent at its other end.
///
/// # Errors
/// [`OpenError::Hello`] or [`OpenError::Protocol`].
pub async fn greet(socket: ExecSocket) -> Result<Agent, OpenError> {
    let ending = socket.ending();
    let hello =
        |error: String| OpenError::Hello(ending.get().map_or(error, |ending| ending.to_string()));
    let (connection, driver) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| hello(error.to_string()))?;
    // The driver ends with the connection. The callers get its error from their calls.
    tokio::spawn(driver.map(drop));
    let transport = Transport(connection.clone());
    let origin = http::Uri::from_static("http://agent");
    let files = FilesClient::with_origin(transport.clone(), origin.clone())
        .max_decoding_message_size(limits::MAX_FILE_MESSAGE)
        .max_encoding_message_size(limits::MAX_FILE_MESSAGE);
    let search = SearchClient::with_origin(transport.clone(), origin.clone())
        .max_decoding_message_size(limits::MAX_SEARCH_MESSAGE)
        .max_encoding_message_size(limits::MAX_SEARCH_MESSAGE);
    let mut client = AgentClient::with_origin(transport, origin)
        .max_decoding_message_size(limits::MAX_MESSAGE)
        .max_encoding_message_size(limits::MAX_MESSAGE);
    let reply = client
        .hello(HelloRequest { protocol: PROTOCOL })
        .await
        .map_err(|status| hello(status.message().to_owned()))?
        .into_inner();
    if !compatible(reply.protocol) {
        return Err(OpenError::Protocol {
            protocol: reply.protocol,
            version: reply.version.chars().take(64).collect(),
        });
    }
    Ok(Agent {
        client,
        files,
        search,
        connection,
        instance: reply.instance,
        ending,
    })
}

impl Agent {
    /// Random name of the agent process. A restarted agent has another one and no
    /// longer has the executions.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// True while requests can be sent.
    pub fn is_open(&self) -> bool {
        !self.connection.is_closed() && self.ending.get().is_none()
    }

    /// The reason why the channel ended.
    pub fn why_closed(&self) -> String {
        self.ending
            .get()
            .map_or_else(|| "the channel was closed".to_owned(), |e| e.to_string())
    }

    pub fn sessions(&self) -> AgentClient<Transport> {
        self.client.clone()
    }

    pub fn files(&self) -> FilesClient<Transport> {
        self.files.clone()
    }

    pub fn search(&self) -> SearchClient<Transport> {
        self.search.clone()
    }

    /// Sends the first input of an execution. The returned sender takes later ones.
    ///
    /// # Errors
    /// The agent refused, or the channel was lost.
    pub async fn exec(
        &self,
        first: ExecInput,
    ) -> Result<(mpsc::Sender<ExecInput>, Streaming<ExecOutput>), Status> {
        let (inputs, queued) = mpsc::channel(4);
        inputs
            .try_send(first)
            .map_err(|_| Status::internal("a new queue is full"))?;
        let outputs = self
            .client
            .clone()
            .exec(Request::new(ReceiverStream::new(queued)))
            .await?;
        Ok((inputs, outputs.into_inner()))
    }

    /// Asks how many commands run in the pod and how long it has been idle.
    ///
    /// # Errors
    /// The agent did not answer in time.
    pub async fn activity(&self) -> Result<ActivityReply, Status> {
        let mut client = self.client.clone();
        tokio::time::timeout(ACTIVITY_TIMEOUT, client.activity(ActivityRequest {}))
            .await
            .map_err(|_| Status::deadline_exceeded("the agent does not answer"))?
            .map(tonic::Response::into_inner)
    }
}

/// Adapts hyper's HTTP/2 connection to the service trait of tonic's clients.
#[derive(Clone)]
pub struct Transport(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.send_request(request).boxed()
    }
}
