//! Shells prepared ahead of the next command, for recently used sessions. Number and
//! time are bounded. A session without one starts its shell when the command comes;
//! only the latency differs.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Session, Sessions};
use crate::lock::Lock;

/// Most prepared shells.
const MAX_SHELLS: usize = 16;
/// How long a prepared shell waits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The sessions with a prepared shell and since when, oldest first.
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
        if queue.len() > MAX_SHELLS {
            dismiss(queue.pop_front());
        }
        self.filled.notify_one();
    }

    /// Ends expired shells; never returns.
    pub async fn expire(&self) {
        loop {
            let oldest = self.queue.lock().front().map(|(moment, _)| *moment);
            match oldest {
                None => self.filled.notified().await,
                Some(moment) if moment.elapsed() >= IDLE_TIMEOUT => {
                    dismiss(self.queue.lock().pop_front());
                }
                Some(moment) => sleep_until(moment + IDLE_TIMEOUT).await,
            }
        }
    }
}

/// Drops the shell; it exits when its control socket closes.
fn dismiss(oldest: Option<(Instant, Weak<Session>)>) {
    if let Some(session) = oldest.and_then(|(_, session)| session.upgrade()) {
        session.state.lock().waiting = None;
    }
}

impl Sessions {
    /// Prepares a shell for the session's next command, after the last answer was sent.
    pub(super) fn ready(self: &Arc<Self>, session: Arc<Session>) {
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            // No await from here on: the session's state must not change in between.
            if session.queue.closed() || session.queue.length() > 0 {
                return;
            }
            if let Ok((waiting, false)) = sessions.begin(&session, false) {
                session.state.lock().waiting = Some(waiting);
                sessions.ready.add(&session);
            }
        });
    }

    /// Ends expired prepared shells; never returns.
    pub async fn expire(&self) {
        self.ready.expire().await;
    }
}
