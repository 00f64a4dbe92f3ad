//! The command queue of a session: one command at a time, in order of arrival.

use std::collections::VecDeque;
use std::sync::Arc;

use hutch_wire::limits::MAX_WAITING;
use tokio::sync::oneshot;
use tonic::Status;

use crate::lock::Lock;

/// The waiting commands, and whether one runs.
#[derive(Debug, Default)]
pub struct Queue(Lock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    busy: bool,
    closed: bool,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Stops the running command.
    stop: Option<oneshot::Sender<()>>,
}

/// The right to use a session. Dropping it gives the turn to the next command.
#[derive(Debug)]
pub struct Turn(Arc<Queue>);

/// A place in the queue.
#[derive(Debug)]
pub struct Place(oneshot::Receiver<Turn>);

impl Queue {
    /// Takes the last place.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if too many commands wait, ABORTED if the session was just
    /// closed.
    pub fn join(self: &Arc<Self>) -> Result<Place, Status> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.0.lock();
        if inner.closed {
            return Err(Status::aborted("the session was closed"));
        }
        if inner.waiting.len() >= MAX_WAITING {
            return Err(Status::resource_exhausted(format!(
                "{MAX_WAITING} commands of this session wait already"
            )));
        }
        inner.waiting.push_back(sender);
        if !inner.busy {
            inner.busy = true;
            drop(inner);
            self.next();
        }
        Ok(Place(receiver))
    }

    /// Gives the turn to the next waiting command.
    fn next(self: &Arc<Self>) {
        let mut inner = self.0.lock();
        inner.stop = None;
        let next = inner.waiting.pop_front();
        inner.busy = next.is_some();
        drop(inner);
        if let Some(next) = next {
            // If the receiver is gone, the turn is dropped and passes to the next one.
            let _ = next.send(Turn(Arc::clone(self)));
        }
    }

    /// Number of commands that run or wait.
    pub fn length(&self) -> usize {
        let inner = self.0.lock();
        inner.waiting.len() + usize::from(inner.busy)
    }

    /// True if the session was closed.
    pub fn closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Stops the running command and cancels the waiting ones.
    pub fn close(&self) {
        let mut inner = self.0.lock();
        inner.closed = true;
        inner.waiting.clear();
        if let Some(stop) = inner.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Turn {
    /// Returns a receiver that resolves when this turn's command must stop.
    pub fn stop(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.0.lock().stop = Some(sender);
        receiver
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.next();
    }
}

impl Place {
    /// Waits for the turn; `None` if the session is closed before.
    pub async fn turn(self) -> Option<Turn> {
        self.0.await.ok()
    }
}
