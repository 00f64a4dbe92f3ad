//! The line before a session: one command at a time, in order of arrival.

use std::collections::VecDeque;
use std::sync::Arc;

use hutch_wire::limits::MAX_WAITING;
use tokio::sync::oneshot;
use tonic::Status;

use crate::lock::Lock;

/// Who waits, and whether somebody has the turn.
#[derive(Debug, Default)]
pub struct Line(Lock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    busy: bool,
    closed: bool,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Ends the command that has the turn.
    stop: Option<oneshot::Sender<()>>,
}

/// The right to use a session; the next in line has it when it is dropped.
#[derive(Debug)]
pub struct Turn(Arc<Line>);

/// A place in the line.
#[derive(Debug)]
pub struct Place(oneshot::Receiver<Turn>);

impl Line {
    /// Takes the last place.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many wait, ABORTED when the session has been
    /// closed a moment ago.
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

    /// Gives the turn to the next who is still there.
    fn next(self: &Arc<Self>) {
        let mut inner = self.0.lock();
        inner.stop = None;
        let next = inner.waiting.pop_front();
        inner.busy = next.is_some();
        drop(inner);
        if let Some(next) = next {
            // Nobody there: the turn comes back as it is dropped.
            let _ = next.send(Turn(Arc::clone(self)));
        }
    }

    /// Commands that run or wait.
    pub fn length(&self) -> usize {
        let inner = self.0.lock();
        inner.waiting.len() + usize::from(inner.busy)
    }

    /// Whether the session is no more.
    pub fn closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Ends the command that has the turn, and sends all others away.
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
    /// What tells the command of this turn to end.
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
    /// The turn, when it comes; none where the session is closed before.
    pub async fn turn(self) -> Option<Turn> {
        self.0.await.ok()
    }
}
