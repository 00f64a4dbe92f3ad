//! The output stream to the attached client. HTTP/2 polls it as fast as it can send, so
//! slow clients need no special care here.

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
    /// The stream to send first when both have output (they alternate).
    turn: Source,
    finished: bool,
    /// Dropped with the stream; that notifies the task that reads the inputs.
    _over: oneshot::Sender<()>,
}

impl Stream {
    /// Creates the stream of client `number` and a receiver that resolves when the
    /// stream is over.
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
