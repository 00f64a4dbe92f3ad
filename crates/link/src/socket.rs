//! An exec stream of the API server as one byte stream over a WebSocket.
//!
//! One task reads and one writes. Bounded queues separate them from the byte stream,
//! so that neither direction can block the other. Protocol: `v5.channel.k8s.io`
//! (KEP-4006, `k8s.io/apimachinery/pkg/util/remotecommand`), binary frames whose first
//! byte says which of stdin, stdout, stderr and status they belong to. A stream ends in
//! one of three ways; see [`Ending`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::PollSender;

use hutch_core::interfaces::PodRef;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;

const MAX_FRAME_PAYLOAD: usize = 32 << 10;
/// Frames that wait in each direction: enough for full throughput, and few enough
/// that a bulk transfer does not delay a short request by much.
const QUEUED_FRAMES: usize = 8;
const PING_EVERY: Duration = Duration::from_secs(10);
/// A connection on which nothing arrives for this long is broken.
const MAX_SILENCE: Duration = Duration::from_secs(25);
/// Yields to other tasks before a frame is sent, so that the next write can join it.
const MERGE_YIELDS: usize = 3;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the remote process's stderr that are kept for the error message.
const MAX_STDERR_KEPT: usize = 1024;

type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// The end of an exec stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The API server sent the status of the remote process.
    Status(ProcessExit),
    /// The WebSocket was closed without a status.
    Closed,
    /// The connection broke.
    Transport(String),
}

/// The end of a remote process, or the reason why none was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessExit {
    /// Its exit code; `None` if it was not started.
    pub code: Option<i32>,
    /// The message of the API server's status.
    pub message: String,
    /// The beginning of the process's stderr, in one line.
    pub stderr: String,
}

impl std::fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.message)?;
        match self.stderr.as_str() {
            "" => Ok(()),
            stderr => write!(f, ": {stderr}"),
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(exit) => write!(f, "the agent's bridge ended: {exit}"),
            Self::Closed => write!(f, "the API server closed the stream"),
            Self::Transport(text) => write!(f, "the connection broke: {text}"),
        }
    }
}

/// An open exec stream. Writes go to the remote process's stdin, reads come from its
/// stdout. Dropping it closes the WebSocket.
pub struct ExecSocket {
    incoming: mpsc::Receiver<Bytes>,
    current: Bytes,
    outgoing: PollSender<Bytes>,
    buffer: BytesMut,
    ending: EndingCell,
}

/// The end of a stream. It stays readable after the stream was moved or dropped.
#[derive(Clone)]
pub struct EndingCell(Arc<watch::Sender<Option<Ending>>>);

impl EndingCell {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// The ending; `None` while the stream is open.
    pub fn get(&self) -> Option<Ending> {
        self.0.borrow().clone()
    }

    /// Waits for the end of the stream. Returns the status of the remote process, or
    /// `None` if the stream ended without one.
    pub async fn exit(&self) -> Option<ProcessExit> {
        let mut ending = self.0.subscribe();
        // `self` holds the sender, so this cannot fail.
        match ending.wait_for(Option::is_some).await.ok()?.clone()? {
            Ending::Status(exit) => Some(exit),
            _ => None,
        }
    }

    /// Keeps the first ending only: later ones are its consequences.
    fn set(&self, ending: Ending) {
        self.0.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                *slot = Some(ending);
            }
            first
        });
    }
}

/// Starts `command` in the pod's container through the exec subresource.
///
/// # Errors
/// The process has not started in case of an error, so the call may be repeated.
pub async fn exec(client: &Client, pod: &PodRef, command: &[&str]) -> kube::Result<ExecSocket> {
    let path = exec_path(pod, command);
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    Ok(start_tasks(client.connect(request).await?.into_stream()))
}

fn exec_path(pod: &PodRef, command: &[&str]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for part in command {
        query.append_pair("command", part);
    }
    query.append_pair("container", &pod.container);
    for stream in ["stdin", "stdout", "stderr"] {
        query.append_pair(stream, "true");
    }
    format!(
        "/api/v1/namespaces/{}/pods/{}/exec?{}",
        pod.namespace,
        pod.name,
        query.finish()
    )
}

/// Starts the task that reads the WebSocket and the one that writes it.
fn start_tasks(socket: WebSocket) -> ExecSocket {
    let (sink, stream) = socket.split();
    let (to_reader, incoming) = mpsc::channel(QUEUED_FRAMES);
    let (outgoing, from_writer) = mpsc::channel(QUEUED_FRAMES);
    let (heard, last_heard) = watch::channel(Instant::now());
    let ending = EndingCell::new();
    // Subscribe before either task runs, so that neither misses the other's end.
    let (ended_read, ended_write) = (ending.0.subscribe(), ending.0.subscribe());
    let reader = read(stream, to_reader, heard, ending.clone());
    tokio::spawn(until(ended_read, reader));
    tokio::spawn(write(
        sink,
        from_writer,
        last_heard,
        ending.clone(),
        ended_write,
    ));
    ExecSocket {
        incoming,
        current: Bytes::new(),
        outgoing: PollSender::new(outgoing),
        buffer: BytesMut::new(),
        ending,
    }
}

async fn until(mut ended: watch::Receiver<Option<Ending>>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = ended.changed() => {}
    }
}

async fn read(
    mut stream: SplitStream<WebSocket>,
    to_reader: mpsc::Sender<Bytes>,
    heard: watch::Sender<Instant>,
    ending: EndingCell,
) {
    let mut stderr = Vec::new();
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            () = to_reader.closed() => return,
        };
        let mut data = match message {
            Some(Ok(Message::Binary(data))) => data,
            Some(Ok(Message::Close(_))) | None => return ending.set(Ending::Closed),
            Some(Ok(_)) => {
                heard.send_replace(Instant::now());
                continue;
            }
            Some(Err(error)) => return ending.set(Ending::Transport(error.to_string())),
        };
        if data.is_empty() {
            continue;
        }
        match data.get_u8() {
            STDOUT if !data.is_empty() => {
                heard.send_replace(Instant::now());
                if to_reader.send(data).await.is_err() {
                    return;
                }
            }
            STDERR => {
                let room = MAX_STDERR_KEPT.saturating_sub(stderr.len());
                stderr.extend_from_slice(&data[..data.len().min(room)]);
            }
            STATUS => return ending.set(Ending::Status(status(&data, &stderr))),
            CLOSE if data.first() == Some(&STDOUT) => return ending.set(Ending::Closed),
            _ => {}
        }
    }
}

/// Parses the status frame.
fn status(frame: &[u8], stderr: &[u8]) -> ProcessExit {
    let status: serde_json::Value = serde_json::from_slice(frame).unwrap_or_default();
    let success = status["status"] == "Success";
    let message = match status["message"].as_str() {
        Some(message) => message,
        None if success => "exit code 0",
        None => "no reason given",
    };
    let causes = status["details"]["causes"].as_array();
    let code = causes.into_iter().flatten();
    let code = code.filter(|cause| cause["reason"] == "ExitCode");
    let code = code.filter_map(|cause| cause["message"].as_str()?.parse().ok());
    let stderr = String::from_utf8_lossy(stderr);
    ProcessExit {
        code: success.then_some(0).or(code.into_iter().next()),
        message: message.to_owned(),
        stderr: stderr.trim().replace('\n', " "),
    }
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut from_writer: mpsc::Receiver<Bytes>,
    last_heard: watch::Receiver<Instant>,
    ending: EndingCell,
    mut ended: watch::Receiver<Option<Ending>>,
) {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sent = tokio::select! {
            frame = from_writer.recv() => match frame {
                Some(frame) => {
                    let frame = merge(frame, &mut from_writer).await;
                    sink.send(Message::Binary(frame)).await
                }
                None => break,
            },
            _ = pings.tick() => {
                if last_heard.borrow().elapsed() > MAX_SILENCE {
                    ending.set(Ending::Transport("no answer to a ping".to_owned()));
                    break;
                }
                sink.send(Message::Ping(Bytes::new())).await
            }
            _ = ended.changed() => break,
        };
        if let Err(error) = sent {
            ending.set(Ending::Transport(error.to_string()));
            break;
        }
    }
    // The timeout is for a peer that is gone. A close frame that cannot be sent does no
    // harm.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, sink.close()).await;
}

/// Merges writes that follow each other closely into one frame: HTTP/2 writes the head
/// and the body of a request separately, and every frame passes through four processes.
async fn merge(first: Bytes, more: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let mut frame = BytesMut::from(first);
    for _ in 0..MERGE_YIELDS {
        tokio::task::yield_now().await;
        while frame.len() <= MAX_FRAME_PAYLOAD / 2 {
            let Ok(next) = more.try_recv() else { break };
            frame.extend_from_slice(&next[1..]);
        }
    }
    frame.freeze()
}

impl ExecSocket {
    /// The end of this stream.
    pub fn ending(&self) -> EndingCell {
        self.ending.clone()
    }

    fn broken(&self) -> io::Error {
        let why = self.ending.get().unwrap_or(Ending::Closed);
        io::Error::new(io::ErrorKind::BrokenPipe, why.to_string())
    }

    /// Passes the buffered bytes to the writing task as one frame.
    fn poll_send_buffer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() <= 1 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.outgoing.poll_reserve(cx)).map_err(|_| self.broken())?;
        let frame = self.buffer.split().freeze();
        Poll::Ready(self.outgoing.send_item(frame).map_err(|_| self.broken()))
    }
}

impl AsyncRead for ExecSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(self.incoming.poll_recv(cx)) {
                Some(bytes) => self.current = bytes,
                None => {
                    return Poll::Ready(match self.ending.get() {
                        Some(Ending::Transport(_)) => Err(self.broken()),
                        _ => Ok(()),
                    });
                }
            }
        }
        let n = self.current.len().min(out.remaining());
        out.put_slice(&self.current.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ExecSocket {
    /// Buffers until the flush, so that all writes of HTTP/2 before it travel in one
    /// frame.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() > MAX_FRAME_PAYLOAD {
            ready!(self.poll_send_buffer(cx))?;
        }
        if self.buffer.is_empty() {
            self.buffer
                .reserve((data.len() + 1).min(MAX_FRAME_PAYLOAD + 1));
            self.buffer.extend_from_slice(&[STDIN]);
        }
        let n = data.len().min(MAX_FRAME_PAYLOAD + 1 - self.buffer.len());
        self.buffer.extend_from_slice(&data[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send_buffer(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_buffer(cx))?;
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
