//! What has happened to sessions and is to be written to their resources: noted as
//! requests are answered, taken out a moment later. Holds no more than what was
//! used lately.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a change waits for others of the same session.
pub const SOON: Duration = Duration::from_millis(100);
/// How often a session is written about at most while it is only used.
pub const EVERY: Duration = Duration::from_secs(30);
/// Bytes of the longest id that a session can have.
pub const LONGEST_ID: usize = 512;
/// First and longest wait before what could not be written is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), EVERY);

/// The sessions of each sandbox, by id.
type Entries = HashMap<String, HashMap<String, Entry>>;

/// What is to be written, and when.
#[derive(Default)]
pub struct SessionLog(Mutex<Entries>);

#[derive(Default)]
struct Entry {
    due: Option<Instant>,
    /// When it was last used or written about.
    touched: Option<Instant>,
    recorded: Option<Instant>,
    failures: u32,
    ended: bool,
    /// UID of the pod that it is known to be open in.
    pod: Option<String>,
}

/// A session that is due.
pub struct Due {
    /// The session's id.
    pub id: String,
    /// A request has ended it since it was last written about.
    pub ended: bool,
}

impl SessionLog {
    /// A session was made or changed.
    pub fn changed(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |entry| {
            entry.ended = false;
            Instant::now() + SOON
        });
    }

    /// A session was ended, or is not there.
    pub fn ended(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |entry| {
            entry.ended = true;
            entry.pod = None;
            Instant::now() + SOON
        });
    }

    /// A session is used.
    pub fn used(&self, sandbox: &str, id: &str) {
        self.note(sandbox, id, |entry| {
            let soon = Instant::now() + SOON;
            let next = entry.recorded.map(|recorded| recorded + EVERY);
            next.map_or(soon, |next| next.max(soon))
        });
    }

    fn note(&self, sandbox: &str, id: &str, due: impl FnOnce(&mut Entry) -> Instant) {
        self.entry(sandbox, id, |entry| {
            let due = due(entry);
            entry.due = Some(entry.due.map_or(due, |old| old.min(due)));
            entry.touched = Some(Instant::now());
        });
    }

    /// Whether the session is known to be open in that pod.
    pub fn is_open(&self, sandbox: &str, id: &str, pod: &str) -> bool {
        let all = self.lock();
        let entry = all.get(sandbox).and_then(|sessions| sessions.get(id));
        entry.is_some_and(|entry| entry.pod.as_deref() == Some(pod))
    }

    /// The session is open in that pod.
    pub fn opened(&self, sandbox: &str, id: &str, pod: &str) {
        self.entry(sandbox, id, |entry| {
            entry.pod = Some(pod.to_owned());
            entry.touched = Some(Instant::now());
        });
    }

    /// Takes out what is due, of at most `room` sandboxes, those in `busy` left
    /// out.
    pub fn due(&self, busy: &HashSet<String>, room: usize) -> Vec<(String, Vec<Due>)> {
        let now = Instant::now();
        let mut all = self.lock();
        let mut taken = Vec::new();
        for (sandbox, sessions) in all.iter_mut() {
            sessions.retain(|_, entry| {
                let lately = |at: Instant| now.duration_since(at) < EVERY;
                entry.due.is_some() || entry.touched.is_some_and(lately)
            });
            if taken.len() == room || busy.contains(sandbox) {
                continue;
            }
            let due = sessions.iter_mut().filter_map(|(id, entry)| {
                entry.due.take_if(|due| *due <= now)?;
                entry.touched = Some(now);
                let (id, ended) = (id.clone(), std::mem::take(&mut entry.ended));
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

    /// What was due is written.
    pub fn written(&self, sandbox: &str, id: &str) {
        self.entry(sandbox, id, |entry| {
            entry.recorded = Some(Instant::now());
            entry.failures = 0;
        });
    }

    /// What was due is to be tried again, later each time.
    pub fn again(&self, sandbox: &str, due: &Due) {
        self.entry(sandbox, &due.id, |entry| {
            let wait = AGAIN
                .0
                .saturating_mul(1 << entry.failures.min(8))
                .min(AGAIN.1);
            entry.failures += 1;
            entry.ended |= due.ended;
            entry.due.get_or_insert_with(|| Instant::now() + wait);
        });
    }

    fn entry(&self, sandbox: &str, id: &str, change: impl FnOnce(&mut Entry)) {
        // No agent has such a session, and anybody may ask for it.
        if id.len() > LONGEST_ID {
            return;
        }
        let mut all = self.lock();
        if !all.contains_key(sandbox) {
            all.insert(sandbox.to_owned(), HashMap::new());
        }
        let Some(sessions) = all.get_mut(sandbox) else {
            return;
        };
        if !sessions.contains_key(id) {
            sessions.insert(id.to_owned(), Entry::default());
        }
        if let Some(entry) = sessions.get_mut(id) {
            change(entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn what_could_not_be_written_is_due_again_and_later_each_time() {
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
            log.again("box", &due[0]);
            waits.push(began.elapsed().as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_longer_used_is_forgotten() {
        let log = SessionLog::default();
        log.opened("box", "s", "pod");
        assert!(log.is_open("box", "s", "pod"));
        tokio::time::advance(EVERY).await;
        assert!(ids(&log).is_empty());
        assert!(log.lock().is_empty());
    }

    #[test]
    fn a_session_that_cannot_be_is_not_remembered() {
        let log = SessionLog::default();
        log.used("box", &"s".repeat(LONGEST_ID));
        log.used("box", &"s".repeat(LONGEST_ID + 1));
        assert_eq!(log.lock()["box"].len(), 1);
    }
}
