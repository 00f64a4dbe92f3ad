//! How much may be going on: requests a second and at once per principal and of
//! strangers together, and the bytes that requests take. What is over a limit is
//! refused at once; nothing waits in a queue here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::room::{Room, Rooms};
use super::visit::Refusal;
use hutch_core::access::{Limits, Principal};

/// Principals that are remembered before those without a request are forgotten.
const REMEMBERED: usize = 4096;
/// What all requests that are nobody's may ask for together.
const STRANGERS: Limits = Limits {
    rate: 500,
    concurrency: 256,
};
/// When to try again where a request in progress has to end first.
const SOON: Duration = Duration::from_secs(1);

/// The limits of the process and of everybody who uses it.
pub struct Limiter {
    rooms: Rooms,
    meters: Mutex<HashMap<String, Arc<Meter>>>,
    strangers: Meter,
}

/// What one principal uses.
struct Meter {
    limits: Limits,
    /// When the requests so far would have come, had they come at even distance:
    /// the generic cell rate algorithm.
    due: Mutex<Instant>,
    slots: Arc<Semaphore>,
}

/// What a meter has none left of.
enum Over {
    /// Requests a second, for so long.
    Rate(Duration),
    /// Requests at once.
    AtOnce,
}

/// What a request holds until its answer has gone out.
#[derive(Default)]
pub struct Pass {
    /// The room of its body, then of its answer.
    pub room: Option<Arc<Room>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// With room for that many bytes.
    pub fn new(bytes: u64, largest_body: u64) -> Self {
        Self {
            rooms: Rooms::new(bytes, largest_body),
            meters: Mutex::default(),
            strangers: Meter::new(STRANGERS),
        }
    }

    /// A pass for a request of that principal with a body of so many bytes.
    pub fn pass(&self, principal: Option<&Principal>, bytes: u64) -> Result<Pass, Refusal> {
        let mut pass = Pass::default();
        if let Some(principal) = principal {
            let slot = self.meter(principal).slot();
            pass.slot = Some(slot.map_err(|over| match over {
                Over::Rate(wait) => Refusal::TooMany("too many requests with this key", wait),
                Over::AtOnce => Refusal::TooMany("too many requests at once with this key", SOON),
            })?);
        }
        let namespace = principal.map(|principal| principal.namespace.as_str());
        let room = self.rooms.room(namespace);
        room.take(bytes)?;
        pass.room = Some(Arc::new(room));
        Ok(pass)
    }

    /// A pass for a request that is nobody's, and is going to be refused.
    pub fn stranger(&self) -> Result<Pass, Refusal> {
        let slot = self.strangers.slot().map_err(|over| {
            let wait = match over {
                Over::Rate(wait) => wait,
                Over::AtOnce => SOON,
            };
            Refusal::TooMany("too many requests without a valid credential", wait)
        });
        Ok(Pass {
            room: None,
            slot: Some(slot?),
        })
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
        let meter = Arc::new(Meter::new(principal.limits));
        meters.insert(id.to_owned(), meter.clone());
        meter
    }
}

impl Meter {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            due: Mutex::new(Instant::now()),
            slots: Arc::new(Semaphore::new(limits.concurrency as usize)),
        }
    }

    /// The place of one more request, where rate and concurrency allow it.
    fn slot(&self) -> Result<OwnedSemaphorePermit, Over> {
        self.count().map_err(Over::Rate)?;
        let slot = self.slots.clone().try_acquire_owned();
        slot.map_err(|_| Over::AtOnce)
    }

    /// Counts one more request; or says for how long the rate does not allow it.
    fn count(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let distance = Duration::from_secs(1) / self.limits.rate.max(1);
        let mut due = lock(&self.due);
        let next = (*due).max(now) + distance;
        // Of a second without requests the rate is saved up.
        let ahead = next.duration_since(now);
        if let Some(wait) = ahead.checked_sub(Duration::from_secs(1).max(distance))
            && !wait.is_zero()
        {
            return Err(wait);
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
    async fn two_keys_of_a_namespace_share_its_room() {
        let limiter = Limiter::new(4 << 20, 1 << 20);
        let (one, mut other) = (principal(1000, 100), principal(1000, 100));
        other.key = Some("2".into());
        let held = limiter.pass(Some(&one), 1 << 20);
        assert!(status(limiter.pass(Some(&other), 1)).is_some());
        other.namespace = "y".into();
        assert_eq!(status(limiter.pass(Some(&other), 1)), None);
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_have_one_limit_together_and_it_is_nobody_else_s() {
        let limiter = Limiter::new(0, 0);
        let held: Vec<_> = std::iter::repeat_with(|| limiter.stranger())
            .take_while(Result::is_ok)
            .collect();
        assert_eq!(held.len(), STRANGERS.concurrency as usize);
        assert_eq!(status(limiter.pass(Some(&principal(1, 1)), 0)), None);
        drop(held);
        assert_eq!(status(limiter.stranger()), None);
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
