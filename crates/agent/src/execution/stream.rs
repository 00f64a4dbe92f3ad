//! The output of an execution on its way to the client that is attached.
//! It is polled as fast as HTTP/2 sends, so a slow client needs nothing here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hutch_wire::v1::ExecOutput;
use hutch_wire::v1::exec_output::Output;
use tokio::sync::oneshot;
use tonic::Status;

use super::{Execution, Source};

/// One client's stream; dropping it detaches the client.
#[derive(Debug)]
pub struct Stream {
    execution: Arc<Execution>,
    number: u64,
    /// Who goes first when both streams have something.
    turn: Source,
    finished: bool,
    /// Dropped with the stream, it tells the inputs' reader.
    _over: oneshot::Sender<()>,
}

impl Stream {
    /// The stream of the client with this number, and what resolves when it is
    /// over.
    pub fn new(execution: Arc<Execution>, number: u64) -> (Self, oneshot::Receiver<()>) {
        let (over, receiver) = oneshot::channel();
        let stream = Self {
            execution,
            number,
            turn: Source::Stdout,
            finished: false,
            _over: over,
        };
        (stream, receiver)
    }

    fn next(&mut self, context: &Context<'_>) -> Poll<Option<Result<ExecOutput, Status>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        let mut state = self.execution.state.lock();
        if state.client.number != self.number {
            self.finished = true;
            let status = Status::aborted("another client has attached to this execution");
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(fault) = state.client.fault.take() {
            self.finished = true;
            return Poll::Ready(Some(Err(fault)));
        }
        for source in [self.turn, self.turn.other()] {
            if let Some(bytes) = state.windows[source as usize].take() {
                self.turn = source.other();
                let output = match source {
                    Source::Stdout => Output::Stdout(bytes),
                    Source::Stderr => Output::Stderr(bytes),
                };
                return ready(output);
            }
        }
        if let Some(exit) = state.exit {
            state.client.told = true;
            self.finished = true;
            return ready(Output::Exit(exit));
        }
        state.client.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

fn ready(output: Output) -> Poll<Option<Result<ExecOutput, Status>>> {
    Poll::Ready(Some(Ok(ExecOutput {
        output: Some(output),
    })))
}

impl Source {
    fn other(self) -> Self {
        match self {
            Self::Stdout => Self::Stderr,
            Self::Stderr => Self::Stdout,
        }
    }
}

impl tokio_stream::Stream for Stream {
    type Item = Result<ExecOutput, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.next(context)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.execution.detach(self.number);
    }
}
