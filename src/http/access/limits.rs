//! How much may be going on: requests a second and at once per principal, and
//! bytes of request bodies per principal and in the whole process. What is over a
//! limit is refused at once; nothing waits in a queue here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::visit::Refusal;
use crate::domain::access::{Limits, Principal};

/// Principals that are remembered before those without a request are forgotten.
const REMEMBERED: usize = 4096;
/// When to try again where a request in progress has to end first.
const SOON: Duration = Duration::from_secs(1);
/// Bytes are counted in pieces of this size.
const PIECE: u64 = 1024;

/// The limits of the process and of everybody who uses it.
pub struct Limiter {
    bytes: Arc<Semaphore>,
    /// Pieces that one principal may take.
    share: usize,
    meters: Mutex<HashMap<String, Arc<Meter>>>,
}

/// What one principal uses.
struct Meter {
    limits: Limits,
    /// When the requests so far would have come, had they come at even distance:
    /// the generic cell rate algorithm.
    due: Mutex<Instant>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The room that a request takes; dropping it gives it back.
#[derive(Default)]
pub struct Pass {
    slot: Option<OwnedSemaphorePermit>,
    bytes: [Option<OwnedSemaphorePermit>; 2],
}

impl Pass {
    /// Whether there is anything to give back.
    pub fn holds_nothing(&self) -> bool {
        self.slot.is_none() && self.bytes.iter().all(Option::is_none)
    }
}

impl Limiter {
    /// With room for that many bytes, of which one principal gets half.
    pub fn new(bytes: u64, largest_body: u64) -> Self {
        let pieces = |bytes: u64| usize::try_from(bytes.div_ceil(PIECE)).unwrap_or(usize::MAX >> 3);
        Self {
            bytes: Arc::new(Semaphore::new(pieces(bytes.max(largest_body)))),
            share: pieces((bytes / 2).max(largest_body)),
            meters: Mutex::default(),
        }
    }

    /// Room for a request of that principal with a body of so many bytes.
    pub fn pass(&self, principal: Option<&Principal>, bytes: u64) -> Result<Pass, Refusal> {
        let mut pass = Pass::default();
        let meter = principal.map(|principal| self.meter(principal));
        if let Some(meter) = &meter {
            meter.count()?;
            let slot = meter.slots.clone().try_acquire_owned();
            let too_many = Refusal::TooMany("too many requests at once with this key", SOON);
            pass.slot = Some(slot.map_err(|_| too_many)?);
        }
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX);
        if pieces == 0 {
            return Ok(pass);
        }
        if let Some(meter) = &meter {
            let room = meter.bytes.clone().try_acquire_many_owned(pieces);
            let too_many = Refusal::TooMany("too many bytes at once with this key", SOON);
            pass.bytes[0] = Some(room.map_err(|_| too_many)?);
        }
        let room = self.bytes.clone().try_acquire_many_owned(pieces);
        let busy = Refusal::Busy("too many bytes are being received, try again");
        pass.bytes[1] = Some(room.map_err(|_| busy)?);
        Ok(pass)
    }

    fn meter(&self, principal: &Principal) -> Arc<Meter> {
        let mut meters = lock(&self.meters);
        let id = match &principal.key {
            Some(key) => key.as_str(),
            None => principal.tenant.as_str(),
        };
        if let Some(meter) = meters.get(id)
            && meter.limits == principal.limits
        {
            return meter.clone();
        }
        if meters.len() >= REMEMBERED {
            meters.retain(|_, meter| !meter.idle());
        }
        let meter = Arc::new(Meter::new(principal.limits, self.share));
        meters.insert(id.to_owned(), meter.clone());
        meter
    }
}

impl Meter {
    fn new(limits: Limits, share: usize) -> Self {
        Self {
            limits,
            due: Mutex::new(Instant::now()),
            slots: Arc::new(Semaphore::new(limits.concurrency as usize)),
            bytes: Arc::new(Semaphore::new(share)),
        }
    }

    /// Counts one more request, where the rate allows it.
    fn count(&self) -> Result<(), Refusal> {
        let now = Instant::now();
        let distance = Duration::from_secs(1) / self.limits.rate.max(1);
        let mut due = lock(&self.due);
        let next = (*due).max(now) + distance;
        // Of a second without requests the rate is saved up.
        let ahead = next.duration_since(now);
        if let Some(wait) = ahead.checked_sub(Duration::from_secs(1).max(distance))
            && !wait.is_zero()
        {
            return Err(Refusal::TooMany("too many requests with this key", wait));
        }
        *due = next;
        Ok(())
    }

    /// Whether forgetting it would change nothing.
    fn idle(&self) -> bool {
        *lock(&self.due) <= Instant::now()
            && self.slots.available_permits() == self.limits.concurrency as usize
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(rate: u32, concurrency: u32) -> Principal {
        Principal {
            tenant: "a".into(),
            key: Some("1".into()),
            namespace: "x".into(),
            scopes: Vec::new(),
            limits: Limits { rate, concurrency },
        }
    }

    fn status(result: Result<Pass, Refusal>) -> Option<Refusal> {
        result.err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_without_requests_saves_up_a_second_of_them() {
        let (limiter, who) = (Limiter::new(0, 0), principal(5, 100));
        for _ in 0..3 {
            for _ in 0..5 {
                assert_eq!(status(limiter.pass(Some(&who), 0)), None);
            }
            let refused = status(limiter.pass(Some(&who), 0));
            assert!(matches!(refused, Some(Refusal::TooMany(..))), "{refused:?}");
            tokio::time::advance(Duration::from_millis(200)).await;
            assert_eq!(status(limiter.pass(Some(&who), 0)), None);
            tokio::time::advance(Duration::from_secs(3)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_a_second_is_a_rate_too() {
        let (limiter, who) = (Limiter::new(0, 0), principal(1, 1));
        drop(limiter.pass(Some(&who), 0).unwrap_or_default());
        assert!(status(limiter.pass(Some(&who), 0)).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(status(limiter.pass(Some(&who), 0)), None);
    }

    #[tokio::test]
    async fn a_slot_is_taken_until_its_request_is_over() {
        let (limiter, who) = (Limiter::new(0, 0), principal(1000, 2));
        let held: Vec<_> = (0..2).map(|_| limiter.pass(Some(&who), 0)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(status(limiter.pass(Some(&who), 0)).is_some());
        drop(held);
        assert_eq!(status(limiter.pass(Some(&who), 0)), None);
    }

    #[tokio::test]
    async fn bytes_are_bounded_for_one_and_for_all() {
        let limiter = Limiter::new(8 * PIECE, 2 * PIECE);
        let (one, mut other) = (principal(1000, 100), principal(1000, 100));
        other.key = Some("2".into());
        let held = limiter.pass(Some(&one), 4 * PIECE);
        let mine = status(limiter.pass(Some(&one), 1));
        assert!(matches!(mine, Some(Refusal::TooMany(..))), "{mine:?}");
        let also = limiter.pass(Some(&other), 4 * PIECE);
        assert!(held.is_ok() && also.is_ok());
        let full = status(limiter.pass(None, 1));
        assert!(matches!(full, Some(Refusal::Busy(_))), "{full:?}");
        drop((held, also));
        assert_eq!(status(limiter.pass(None, 8 * PIECE)), None);
    }

    #[tokio::test]
    async fn limits_that_changed_hold_at_once() {
        let limiter = Limiter::new(0, 0);
        let held = limiter.pass(Some(&principal(1000, 1)), 0);
        assert!(status(limiter.pass(Some(&principal(1000, 1)), 0)).is_some());
        assert_eq!(status(limiter.pass(Some(&principal(1000, 2)), 0)), None);
        drop(held);
    }
}
