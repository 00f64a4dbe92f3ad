//! Notes which sessions changed, so that their resources can be written a moment later
//! (`records`). It forgets sessions that were not used lately.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use hutch_core::backoff::Backoff;
use hutch_core::exec::MAX_SESSION_ID_BYTES;
use hutch_core::sync::Lock;

/// How long a change waits for further changes of the same session.
pub const BATCH_DELAY: Duration = Duration::from_millis(100);
/// The shortest time between two writes for a session that is used but not changed.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(30);
/// The wait before a write that failed is tried again.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), WRITE_INTERVAL);

/// By sandbox name, then by session ID.
type Sessions = HashMap<String, HashMap<String, Session>>;

/// The sessions whose resources are to be written, and when.
#[derive(Default)]
pub struct SessionLog(Lock<Sessions>);

#[derive(Default)]
struct Session {
    /// The time of the next write. `None`: nothing is to be written.
    due: Option<Instant>,
    /// The time of the last use or write.
    touched: Option<Instant>,
    /// The time of the last write that succeeded.
    written: Option<Instant>,
    /// The writes that failed since then.
    failures: u32,
    /// A request has ended the session since the last write.
    ended: bool,
    /// The UID of the pod in which the session is known to be open.
    pod: Option<String>,
}

/// A session whose resource is to be written now.
pub struct Due {
    /// The session's id.
    pub id: String,
    /// True if a request has ended it since the last write.
    pub ended: bool,
}

impl SessionLog {
    /// Notes that a session was opened or changed.
    pub fn changed(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |session| {
            session.ended = false;
            Instant::now() + BATCH_DELAY
        });
    }

    /// Notes that a session was ended, or does not exist.
    pub fn ended(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |session| {
            session.ended = true;
            session.pod = None;
            Instant::now() + BATCH_DELAY
        });
    }

    /// Notes that a session is used.
    pub fn used(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |session| {
            let soon = Instant::now() + BATCH_DELAY;
            let next = session.written.map(|written| written + WRITE_INTERVAL);
            next.map_or(soon, |next| next.max(soon))
        });
    }

    fn note(&self, sandbox: &str, id: &str, due: impl FnOnce(&mut Session) -> Instant) {
        self.update(sandbox, id, |session| {
            let due = due(session);
            session.due = Some(session.due.map_or(due, |old| old.min(due)));
            session.touched = Some(Instant::now());
        });
    }

    /// True if the session is known to be open in the pod of that UID.
    pub fn is_open(&self, sandbox: &str, id: &str, pod: &str) -> bool {
        let all = self.0.lock();
        let session = all.get(sandbox).and_then(|sessions| sessions.get(id));
        session.is_some_and(|session| session.pod.as_deref() == Some(pod))
    }

    /// Notes that the session is open in the pod of that UID.
    pub fn opened(&self, sandbox: &str, id: &str, pod: &str) {
        self.update(sandbox, id, |session| {
            session.pod = Some(pod.to_owned());
            session.touched = Some(Instant::now());
        });
    }

    /// Removes and returns what is due, for at most `room` sandboxes, none of them in
    /// `busy`.
    pub fn due(&self, busy: &HashSet<String>, room: usize) -> Vec<(String, Vec<Due>)> {
        let now = Instant::now();
        let mut all = self.0.lock();
        let mut taken = Vec::new();
        for (sandbox, sessions) in all.iter_mut() {
            sessions.retain(|_, session| {
                let lately = |at: Instant| now.duration_since(at) < WRITE_INTERVAL;
                session.due.is_some() || session.touched.is_some_and(lately)
            });
            if taken.len() == room || busy.contains(sandbox) {
                continue;
            }
            let due = sessions.iter_mut().filter_map(|(id, session)| {
                session.due.take_if(|due| *due <= now)?;
                session.touched = Some(now);
                let (id, ended) = (id.clone(), std::mem::take(&mut session.ended));
                Some(Due { id, ended })
            });
            let due: Vec<_> = due.collect();
            if !due.is_empty() {
                taken.push((sandbox.clone(), due));
            }
        }
        all.retain(|_, sessions| !sessions.is_empty());
        taken
    }

    /// Notes that the resource of a session was written.
    pub fn written(&self, sandbox: &str, id: &str) {
        self.update(sandbox, id, |session| {
            session.written = Some(Instant::now());
            session.failures = 0;
        });
    }

    /// Makes a session due again after a failure. The wait doubles with each failure.
    pub fn retry(&self, sandbox: &str, due: &Due) {
        self.update(sandbox, &due.id, |session| {
            session.failures = session.failures.saturating_add(1);
            let wait = RETRY.after(session.failures);
            session.ended |= due.ended;
            session.due.get_or_insert_with(|| Instant::now() + wait);
        });
    }

    fn update(&self, sandbox: &str, id: &str, change: impl FnOnce(&mut Session)) {
        // No agent has such a session. A client could fill the memory with such IDs.
        if id.len() > MAX_SESSION_ID_BYTES {
            return;
        }
        let mut all = self.0.lock();
        if !all.contains_key(sandbox) {
            all.insert(sandbox.to_owned(), HashMap::new());
        }
        let Some(sessions) = all.get_mut(sandbox) else {
            return;
        };
        if !sessions.contains_key(id) {
            sessions.insert(id.to_owned(), Session::default());
        }
        if let Some(session) = sessions.get_mut(id) {
            change(session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(log: &SessionLog) -> Vec<String> {
        let due = log.due(&HashSet::new(), 1).into_iter();
        let due = due.flat_map(|(_, due)| due);
        due.map(|due| due.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_used_all_the_time_is_due_every_30_s() {
        let log = SessionLog::default();
        let mut times = 0;
        for _ in 0..700 {
            log.used("box", "s");
            tokio::time::advance(Duration::from_millis(100)).await;
            for id in ids(&log) {
                log.written("box", &id);
                times += 1;
            }
        }
        assert_eq!(times, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_due_again_and_later_each_time() {
        let log = SessionLog::default();
        log.ended("box", "s");
        let mut waits = Vec::new();
        for _ in 0..7 {
            let began = Instant::now();
            let due = loop {
                tokio::time::advance(Duration::from_millis(100)).await;
                if let Some((_, due)) = log.due(&HashSet::new(), 1).pop() {
                    break due;
                }
            };
            assert!(due[0].ended);
            log.retry("box", &due[0]);
            waits.push(began.elapsed().as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_not_used_is_forgotten() {
        let log = SessionLog::default();
        log.opened("box", "s", "pod");
        assert!(log.is_open("box", "s", "pod"));
        tokio::time::advance(WRITE_INTERVAL).await;
        assert!(ids(&log).is_empty());
        assert!(log.0.lock().is_empty());
    }

    #[test]
    fn a_session_with_an_impossible_id_is_not_noted() {
        let log = SessionLog::default();
        log.used("box", &"s".repeat(MAX_SESSION_ID_BYTES));
        log.used("box", &"s".repeat(MAX_SESSION_ID_BYTES + 1));
        assert_eq!(log.0.lock()["box"].len(), 1);
    }
}
