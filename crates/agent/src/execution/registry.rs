//! Executions by id: running ones, and for a while ended ones whose result no client
//! has fetched. Number, age and bytes of the results are bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hutch_wire::limits::RESULT_KEPT_SECONDS;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Execution;
use crate::lock::Lock;

const RESULT_TTL: Duration = Duration::from_secs(RESULT_KEPT_SECONDS);
/// Most results kept.
const MAX_RESULTS: usize = 256;
/// Most bytes of output in the results kept.
const MAX_RESULT_BYTES: usize = 32 << 20;

/// All executions that a client can attach to.
#[derive(Debug)]
pub struct Executions {
    inner: Lock<Inner>,
    ended: Notify,
}

#[derive(Debug)]
struct Inner {
    known: HashMap<String, Arc<Execution>>,
    /// Those that have ended, oldest first.
    ended: VecDeque<(Instant, Arc<Execution>)>,
    running: u32,
    last_event: Instant,
}

impl Inner {
    fn forget_oldest(&mut self) {
        if let Some((_, execution)) = self.ended.pop_front() {
            self.known.remove(execution.id());
        }
    }
}

impl Default for Executions {
    fn default() -> Self {
        let inner = Inner {
            known: HashMap::new(),
            ended: VecDeque::new(),
            running: 0,
            last_event: Instant::now(),
        };
        Self {
            inner: Lock::new(inner),
            ended: Notify::new(),
        }
    }
}

impl Executions {
    /// The execution of that id.
    pub fn find(&self, id: &str) -> Option<Arc<Execution>> {
        self.inner.lock().known.get(id).cloned()
    }

    /// Registers a new running execution.
    pub fn add(&self, execution: &Arc<Execution>) {
        let mut inner = self.inner.lock();
        inner
            .known
            .insert(execution.id().to_owned(), Arc::clone(execution));
        inner.running += 1;
        inner.last_event = Instant::now();
    }

    /// Records that a registered execution has its result.
    pub fn ended(&self, execution: &Arc<Execution>) {
        let mut inner = self.inner.lock();
        inner.running -= 1;
        inner.last_event = Instant::now();
        inner
            .ended
            .push_back((Instant::now(), Arc::clone(execution)));
        let mut bytes: usize = inner
            .ended
            .iter()
            .map(|(_, execution)| execution.size())
            .sum();
        while inner.ended.len() > MAX_RESULTS || (bytes > MAX_RESULT_BYTES && inner.ended.len() > 1)
        {
            bytes -= inner.ended.front().map_or(0, |(_, oldest)| oldest.size());
            inner.forget_oldest();
        }
        self.ended.notify_one();
    }

    /// Removes an ended execution that the client has received completely.
    pub fn forget(&self, execution: &Arc<Execution>) {
        let mut inner = self.inner.lock();
        let Some(place) = inner
            .ended
            .iter()
            .position(|(_, ended)| Arc::ptr_eq(ended, execution))
        else {
            return;
        };
        inner.ended.remove(place);
        inner.known.remove(execution.id());
    }

    /// Removes expired results; never returns.
    pub async fn expire(&self) {
        loop {
            let oldest = self.inner.lock().ended.front().map(|(moment, _)| *moment);
            match oldest {
                None => self.ended.notified().await,
                Some(moment) if moment.elapsed() >= RESULT_TTL => self.inner.lock().forget_oldest(),
                Some(moment) => sleep_until(moment + RESULT_TTL).await,
            }
        }
    }

    /// Number of running executions.
    pub fn running(&self) -> u32 {
        self.inner.lock().running
    }

    /// Time since the last execution started or ended.
    pub fn idle(&self) -> Duration {
        self.inner.lock().last_event.elapsed()
    }
}
