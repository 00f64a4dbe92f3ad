//! The WebSocket pump: an exec stream of the API server as one byte stream.
//!
//! One task reads, one writes, with bounded queues between them and the byte
//! stream, so that neither direction can block the other. Protocol: binary
//! frames whose first byte names a channel, `v5.channel.k8s.io` (KEP-4006,
//! `k8s.io/apimachinery/pkg/util/remotecommand`). A stream ends in one of three
//! ways, which [`Ending`] keeps apart.

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

/// Most bytes of payload in one frame.
const FRAME: usize = 32 << 10;
/// Frames that wait in each direction: enough for full throughput, few enough
/// that a bulk transfer does not delay a short request by much.
const QUEUE: usize = 8;
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(25);
/// Turns of other tasks that a frame waits for its successor.
const MOMENT: usize = 3;
/// Bytes kept of what the remote end says on stderr, for its error message.
const STDERR_KEPT: usize = 1024;

type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// How an exec stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The API server said how the remote process ended.
    Status(Exit),
    /// The WebSocket was closed without such a word.
    Closed,
    /// The connection broke.
    Transport(String),
}

/// How a remote process ended, or why none was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; none where it was not started.
    pub code: Option<i32>,
    /// The API server's own words.
    pub message: String,
    /// The beginning of what the process said on stderr.
    pub said: String,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.message)?;
        match self.said.as_str() {
            "" => Ok(()),
            said => write!(f, ": {said}"),
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

/// An open exec stream: what is written goes to the remote process's stdin,
/// what is read is its stdout. Dropping it closes the WebSocket.
pub struct ExecSocket {
    incoming: mpsc::Receiver<Bytes>,
    current: Bytes,
    outgoing: PollSender<Bytes>,
    buffer: BytesMut,
    ending: EndingCell,
}

/// Says how a stream ended, also to those who do not hold it.
#[derive(Clone)]
pub struct EndingCell(Arc<watch::Sender<Option<Ending>>>);

impl EndingCell {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// The ending, once there is one.
    pub fn get(&self) -> Option<Ending> {
        self.0.borrow().clone()
    }

    /// How the remote process ended, once the stream has ended; none where that was
    /// not told.
    pub async fn exit(&self) -> Option<Exit> {
        let mut ending = self.0.subscribe();
        // The sender is held here.
        match ending.wait_for(Option::is_some).await.ok()?.clone()? {
            Ending::Status(exit) => Some(exit),
            _ => None,
        }
    }

    /// Only the first ending counts: the others are its consequences.
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

/// Starts `command` in the pod's container by the API server's exec subresource.
///
/// # Errors
/// Any error comes before the process has started, so the call may be repeated.
pub async fn exec(client: &Client, pod: &PodRef, command: &[&str]) -> kube::Result<ExecSocket> {
    let path = exec_path(pod, command);
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    Ok(pump(client.connect(request).await?.into_stream()))
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

fn pump(socket: WebSocket) -> ExecSocket {
    let (sink, stream) = socket.split();
    let (to_reader, incoming) = mpsc::channel(QUEUE);
    let (outgoing, from_writer) = mpsc::channel(QUEUE);
    let (heard, last_heard) = watch::channel(Instant::now());
    let ending = EndingCell::new();
    // Subscribed before either task runs, so that neither misses the other's end.
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
                let room = STDERR_KEPT.saturating_sub(stderr.len());
                stderr.extend_from_slice(&data[..data.len().min(room)]);
            }
            STATUS => return ending.set(Ending::Status(status(&data, &stderr))),
            CLOSE if data.first() == Some(&STDOUT) => return ending.set(Ending::Closed),
            _ => {}
        }
    }
}

/// What the status frame and the remote end's stderr say, each in one line.
fn status(frame: &[u8], stderr: &[u8]) -> Exit {
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
    let said = String::from_utf8_lossy(stderr);
    Exit {
        code: success.then_some(0).or(code.into_iter().next()),
        message: message.to_owned(),
        said: said.trim().replace('\n', " "),
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
                    let frame = gather(frame, &mut from_writer).await;
                    sink.send(Message::Binary(frame)).await
                }
                None => break,
            },
            _ = pings.tick() => {
                if last_heard.borrow().elapsed() > PONG_WITHIN {
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
    // The peer may be gone, which is what the deadline is for; a close that
    // cannot be sent is no loss.
    let _ = tokio::time::timeout(Duration::from_secs(1), sink.close()).await;
}

/// One frame of what is written within a moment: HTTP/2 writes the head of a
/// request and its body in two goes, and every frame is carried through four
/// processes.
async fn gather(first: Bytes, more: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let mut frame = BytesMut::from(first);
    for _ in 0..MOMENT {
        tokio::task::yield_now().await;
        while frame.len() <= FRAME / 2 {
            let Ok(next) = more.try_recv() else { break };
            frame.extend_from_slice(&next[1..]);
        }
    }
    frame.freeze()
}

impl ExecSocket {
    /// How this stream ended, once it has; stays readable after the stream is
    /// given away.
    pub fn ending(&self) -> EndingCell {
        self.ending.clone()
    }

    fn broken(&self) -> io::Error {
        let why = self.ending.get().unwrap_or(Ending::Closed);
        io::Error::new(io::ErrorKind::BrokenPipe, why.to_string())
    }

    /// Hands what was written to the writer as one frame.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
    /// Collects until the flush, so that what HTTP/2 writes in one go travels
    /// as one frame.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() > FRAME {
            ready!(self.poll_hand_over(cx))?;
        }
        if self.buffer.is_empty() {
            self.buffer.reserve((data.len() + 1).min(FRAME + 1));
            self.buffer.extend_from_slice(&[STDIN]);
        }
        let n = data.len().min(FRAME + 1 - self.buffer.len());
        self.buffer.extend_from_slice(&data[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_hand_over(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(cx))?;
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
