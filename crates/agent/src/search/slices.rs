//! Runs a search on the workers in slices; each slice is a job of its own.
//!
//! Nothing runs between slices: a client that reads slowly holds no thread, and a
//! client that has left is noticed at once.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::{BoxStream, iter};
use hutch_wire::limits::CHUNK;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::files::CLIENT_STALL_TIMEOUT;
use crate::files::error::FileError;
use crate::files::worker::{DropOnWorker, work};

/// Longest slice, unless a single step takes longer.
const MAX_SLICE: Duration = Duration::from_millis(50);

/// A search that can be interrupted.
pub trait Work: Send + 'static {
    /// A message to the client.
    type Output: Send + 'static;

    /// Does a small piece of work; returns true at the end of the search.
    fn step(&mut self) -> bool;
    /// Estimated bytes that wait to be sent.
    fn held(&self) -> usize;
    /// Takes the waiting messages.
    fn take(&mut self) -> Vec<Self::Output>;
    /// The last message.
    fn end(&self) -> Self::Output;
}

/// The response stream of a search.
pub type Outputs<T> = BoxStream<'static, Result<T, Status>>;

/// Begins a search and sends its results. `permit` is held until its end; `what` is for
/// error texts.
///
/// # Errors
/// If it cannot begin.
pub async fn stream<W: Work>(
    begin: impl FnOnce() -> Result<W, FileError> + Send + 'static,
    what: String,
    permit: OwnedSemaphorePermit,
) -> Result<Outputs<W::Output>, Status> {
    let begun = work(move || slice(begin()?)).await;
    let mut done = begun.map_err(|trouble| trouble.status(&what))?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        loop {
            // Send a slice at once: it then leaves in large frames. h2 breaks a
            // connection that gets too many small frames (ENHANCE_YOUR_CALM).
            let sent =
                tokio::time::timeout(CLIENT_STALL_TIMEOUT, sender.send(Ok(done.outputs))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return stalled(&sender, &what);
            }
            let Some(search) = done.search.and_then(DropOnWorker::take) else {
                return;
            };
            if sender.is_closed() {
                return drop(DropOnWorker::new(search));
            }
            done = match work(move || slice(search)).await {
                Ok(done) => done,
                Err(trouble) => {
                    let _ = sender.send(Err(trouble.status(&what))).await;
                    return;
                }
            };
        }
    });
    let slices = ReceiverStream::new(receiver);
    let outputs = slices.flat_map(|slice| match slice {
        Ok(outputs) => iter(outputs.into_iter().map(Ok)).left_stream(),
        Err(status) => iter([Err(status)]).right_stream(),
    });
    Ok(outputs.boxed())
}

/// Reports the timeout to a client that is connected but does not read.
fn stalled<T>(sender: &mpsc::Sender<Result<T, Status>>, what: &str) {
    let _ = sender.try_send(Err(FileError::Stalled.status(what)));
}

struct Done<W: Work> {
    /// `None` at the end.
    search: Option<DropOnWorker<W>>,
    outputs: Vec<W::Output>,
}

fn slice<W: Work>(mut search: W) -> Result<Done<W>, FileError> {
    let begin = Instant::now();
    while search.held() < CHUNK && begin.elapsed() < MAX_SLICE {
        if search.step() {
            let mut outputs = search.take();
            outputs.push(search.end());
            return Ok(Done {
                search: None,
                outputs,
            });
        }
    }
    let outputs = search.take();
    Ok(Done {
        search: Some(DropOnWorker::new(search)),
        outputs,
    })
}
