//! The gRPC server on the agent's socket and the service `Agent`. It translates between
//! gRPC and executions or sessions, and decides nothing else.

use std::io;
use std::os::unix::net as std_unix;
use std::sync::Arc;
use std::time::Duration;

use hutch_wire::v1::agent_server::{Agent, AgentServer};
use hutch_wire::v1::exec_input::Input;
use hutch_wire::v1::{
    ActivityReply, ActivityRequest, CloseSessionReply, CloseSessionRequest, ExecInput, HelloReply,
    HelloRequest, ListSessionsReply, ListSessionsRequest, OpenSessionReply, OpenSessionRequest,
    SetSessionVariablesReply, SetSessionVariablesRequest,
};
use hutch_wire::{PROTOCOL, limits};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::execution::{Executions, Starter, Stream, listen};
use crate::files::Files;
use crate::lock::Lock;
use crate::log;
use crate::path_router::PathRouter;
use crate::process::{Pid, tree};
use crate::search::Search;
use crate::session::Sessions;
use crate::socket;

const MAX_STREAMS: u32 = 1024;
/// A channel whose far end has vanished is detected and closed; otherwise its `connect`
/// process would stay for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The service `Agent`.
#[derive(Debug)]
pub struct Service {
    /// Random; new with every start of the agent.
    pub instance: String,
    pub starter: Arc<Starter>,
    pub executions: Arc<Executions>,
    pub sessions: Arc<Sessions>,
    /// The user's entrypoint, while it lives.
    pub entrypoint: Arc<Lock<Option<Pid>>>,
}

/// Binds the agent's socket, or takes the inherited one.
///
/// # Errors
/// If another agent has bound it.
pub fn bind(handed_down: bool) -> io::Result<UnixListener> {
    let listener = if handed_down {
        socket::handed_down()?
    } else {
        std_unix::UnixListener::bind_addr(&socket::of_a_sandbox()?)?
    };
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Serves the protocol on the socket; never returns in normal operation.
///
/// # Errors
/// If the server ends.
pub async fn serve(
    listener: UnixListener,
    service: Service,
    files: Files,
    search: Search,
) -> Result<(), tonic::transport::Error> {
    let (sender, incoming) = mpsc::channel(1);
    tokio::spawn(accept(listener, sender));
    let service = AgentServer::new(service)
        .max_decoding_message_size(limits::MAX_MESSAGE)
        .max_encoding_message_size(limits::MAX_MESSAGE);
    let files = files.server();
    Server::builder()
        .accept_http1(false)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .serve_with_incoming(
            PathRouter {
                named: files,
                rest: PathRouter {
                    named: search.server(),
                    rest: service,
                },
            },
            ReceiverStream::new(incoming),
        )
        .await
}

async fn accept(listener: UnixListener, sender: mpsc::Sender<io::Result<UnixStream>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if !socket::trusted(&stream) => {}
            Ok((stream, _)) => {
                if sender.send(Ok(stream)).await.is_err() {
                    return;
                }
            }
            Err(problem) => {
                log::line(&format!("cannot accept a connection: {problem}"));
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

impl Service {
    async fn open(&self, mut inputs: Streaming<ExecInput>) -> Result<Stream, Status> {
        let first = inputs.message().await?.and_then(|message| message.input);
        let (execution, offsets) = match first {
            Some(Input::Start(start)) if !start.session.is_empty() => {
                (self.sessions.start(start)?, [0, 0])
            }
            Some(Input::Start(start)) => (self.starter.start(start)?, [0, 0]),
            Some(Input::Attach(attach)) => {
                let execution = self
                    .executions
                    .find(&attach.id)
                    .ok_or_else(|| Status::not_found("no execution of this id runs or is kept"))?;
                (execution, [attach.stdout_offset, attach.stderr_offset])
            }
            _ => {
                return Err(Status::invalid_argument(
                    "the first input is not start or attach",
                ));
            }
        };
        let number = execution.attach(offsets)?;
        let (stream, over) = Stream::new(Arc::clone(&execution), number);
        tokio::spawn(listen(
            Arc::clone(&execution),
            number,
            inputs,
            over,
            Arc::clone(&self.executions),
        ));
        execution.first_word().await;
        Ok(stream)
    }

    fn background(&self) -> u32 {
        // All processes that the agent started itself. A stopped entrypoint is no
        // longer watched, but it is no background process.
        let mut roots = self.starter.reaper.watched();
        let entrypoint = *self.entrypoint.lock();
        roots.extend(entrypoint.map(|pid| pid.as_raw_nonzero().get()));
        tree::left_behind(&roots)
    }
}

#[tonic::async_trait]
impl Agent for Service {
    type ExecStream = Stream;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            instance: self.instance.clone(),
        }))
    }

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Stream>, Status> {
        self.open(request.into_inner()).await.map(Response::new)
    }

    async fn activity(
        &self,
        _: Request<ActivityRequest>,
    ) -> Result<Response<ActivityReply>, Status> {
        let idle = self.executions.idle().as_millis();
        Ok(Response::new(ActivityReply {
            running: self.executions.running(),
            background: self.background(),
            idle_ms: u64::try_from(idle).unwrap_or(u64::MAX),
        }))
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionReply>, Status> {
        self.sessions.open(request.get_ref())?;
        Ok(Response::new(OpenSessionReply {}))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionReply>, Status> {
        let CloseSessionRequest { id, owner } = request.get_ref();
        self.sessions.close(id, owner)?;
        Ok(Response::new(CloseSessionReply {}))
    }

    async fn set_session_variables(
        &self,
        request: Request<SetSessionVariablesRequest>,
    ) -> Result<Response<SetSessionVariablesReply>, Status> {
        let SetSessionVariablesRequest { id, env } = request.into_inner();
        let created = self.sessions.set(&id, &env).await?;
        Ok(Response::new(SetSessionVariablesReply { created }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsReply>, Status> {
        let sessions = self.sessions.list(&request.get_ref().id);
        Ok(Response::new(ListSessionsReply { sessions }))
    }
}
