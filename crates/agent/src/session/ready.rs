//! Shells that are started ahead of their commands, for sessions that were used
//! a moment ago. Bounded in number and time; a session that has none starts its
//! shell when the command comes, and nobody can tell but by the clock.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Session, Sessions};
use crate::lock::Lock;

/// Most shells that wait.
const MOST: usize = 16;
/// How long one waits.
const KEPT: Duration = Duration::from_secs(5);

/// The sessions that have one, oldest shell first, and since when.
#[derive(Debug, Default)]
pub struct Ready {
    queue: Lock<VecDeque<(Instant, Weak<Session>)>>,
    filled: Notify,
}

impl Ready {
    fn add(&self, session: &Arc<Session>) {
        let mut queue = self.queue.lock();
        queue.retain(|(_, other)| other.as_ptr() != Arc::as_ptr(session));
        queue.push_back((Instant::now(), Arc::downgrade(session)));
        if queue.len() > MOST {
            dismiss(queue.pop_front());
        }
        self.filled.notify_one();
    }

    /// Sends shells away as their time comes; for ever.
    pub async fn expire(&self) {
        loop {
            let oldest = self.queue.lock().front().map(|(moment, _)| *moment);
            match oldest {
                None => self.filled.notified().await,
                Some(moment) if moment.elapsed() >= KEPT => {
                    dismiss(self.queue.lock().pop_front());
                }
                Some(moment) => sleep_until(moment + KEPT).await,
            }
        }
    }
}

/// A shell whose pipe ends goes away by itself.
fn dismiss(oldest: Option<(Instant, Weak<Session>)>) {
    if let Some(session) = oldest.and_then(|(_, session)| session.upgrade()) {
        session.state.lock().waiting = None;
    }
}

impl Sessions {
    /// Has a shell ready for the next command of a session, once the answer of
    /// the last one is on its way.
    pub(super) fn ready(self: &Arc<Self>, session: Arc<Session>) {
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            // No await from here on: what is seen of the session stays so.
            if session.line.closed() || session.line.length() > 0 {
                return;
            }
            if let Ok((waiting, false)) = sessions.begin(&session, false) {
                session.state.lock().waiting = Some(waiting);
                sessions.ready.add(&session);
            }
        });
    }

    /// Sends shells away that wait for too long; for ever.
    pub async fn expire(&self) {
        self.ready.expire().await;
    }
}
