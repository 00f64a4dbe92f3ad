//! Limits on requests: rate and concurrency per principal, the same for all requests
//! without a valid credential together, and the bytes in memory. A request over a limit
//! is refused at once. There is no queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::context::Refusal;
use super::memory::{MemoryBudget, MemoryPermit};
use hutch_core::access::{Limits, Principal};

/// With this many meters, idle ones are removed before another is added.
const METERS_BEFORE_CLEANUP: usize = 4096;
/// All requests without a valid credential share these limits.
const ANONYMOUS_LIMITS: Limits = Limits {
    rate: 500,
    concurrency: 256,
};
/// `Retry-After` if another request has to end first.
const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

pub struct Limiter {
    memory: MemoryBudget,
    meters: Mutex<HashMap<String, Arc<Meter>>>,
    anonymous: Meter,
}

/// The use of one API key, or of one tenant without a key.
struct Meter {
    limits: Limits,
    /// The theoretical arrival time of the generic cell rate algorithm: when the next
    /// request would arrive if all requests so far had arrived at an even distance.
    next_arrival: Mutex<Instant>,
    slots: Arc<Semaphore>,
}

/// The limit that a request exceeds.
enum Exceeded {
    /// Requests per second; the next one is allowed after this time.
    Rate(Duration),
    Concurrency,
}

/// A request's share of the limits. The request holds it until its response has been
/// sent.
#[derive(Default)]
pub struct Permit {
    /// Memory for the request's body, later for its response.
    pub memory: Option<Arc<MemoryPermit>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// Limits all requests together to `max_in_flight` bytes.
    pub fn new(max_in_flight: u64, largest_body: u64) -> Self {
        Self {
            memory: MemoryBudget::new(max_in_flight, largest_body),
            meters: Mutex::default(),
            anonymous: Meter::new(ANONYMOUS_LIMITS),
        }
    }

    /// A permit for a request of `principal` with a body of `body_bytes`.
    pub fn permit(
        &self,
        principal: Option<&Principal>,
        body_bytes: u64,
    ) -> Result<Permit, Refusal> {
        let mut permit = Permit::default();
        if let Some(principal) = principal {
            let slot = self.meter(principal).slot();
            permit.slot = Some(slot.map_err(|exceeded| match exceeded {
                Exceeded::Rate(wait) => Refusal::TooMany("too many requests with this key", wait),
                Exceeded::Concurrency => {
                    let text = "too many requests at once with this key";
                    Refusal::TooMany(text, CONCURRENCY_RETRY)
                }
            })?);
        }
        let namespace = principal.map(|principal| principal.namespace.as_str());
        let memory = self.memory.permit(namespace);
        memory.reserve(body_bytes)?;
        permit.memory = Some(Arc::new(memory));
        Ok(permit)
    }

    /// A permit for a request without a valid credential, which will be refused.
    pub fn anonymous(&self) -> Result<Permit, Refusal> {
        let slot = self.anonymous.slot().map_err(|exceeded| {
            let wait = match exceeded {
                Exceeded::Rate(wait) => wait,
                Exceeded::Concurrency => CONCURRENCY_RETRY,
            };
            Refusal::TooMany("too many requests without a valid credential", wait)
        });
        Ok(Permit {
            memory: None,
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
        if meters.len() >= METERS_BEFORE_CLEANUP {
            meters.retain(|_, meter| !meter.is_idle());
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
            next_arrival: Mutex::new(Instant::now()),
            slots: Arc::new(Semaphore::new(limits.concurrency as usize)),
        }
    }

    /// Admits one more request if rate and concurrency allow it.
    fn slot(&self) -> Result<OwnedSemaphorePermit, Exceeded> {
        self.count().map_err(Exceeded::Rate)?;
        let slot = self.slots.clone().try_acquire_owned();
        slot.map_err(|_| Exceeded::Concurrency)
    }

    /// Counts one more request.
    ///
    /// # Errors
    /// The time to wait if the rate does not allow it.
    fn count(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let distance = Duration::from_secs(1) / self.limits.rate.max(1);
        let mut next_arrival = lock(&self.next_arrival);
        let next = (*next_arrival).max(now) + distance;
        // Allow a burst of up to one second's worth of unused requests.
        let ahead = next.duration_since(now);
        if let Some(wait) = ahead.checked_sub(Duration::from_secs(1).max(distance))
            && !wait.is_zero()
        {
            return Err(wait);
        }
        *next_arrival = next;
        Ok(())
    }

    /// True if a new meter would behave the same.
    fn is_idle(&self) -> bool {
        *lock(&self.next_arrival) <= Instant::now()
            && self.slots.available_permits() == self.limits.concurrency as usize
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited_to(rate: u32, concurrency: u32) -> Principal {
        Principal {
            tenant: "a".into(),
            key: Some("1".into()),
            namespace: "x".into(),
            scopes: Vec::new(),
            limits: Limits { rate, concurrency },
        }
    }

    fn refusal(result: Result<Permit, Refusal>) -> Option<Refusal> {
        result.err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_uses_at_most_one_idle_second() {
        let (limiter, principal) = (Limiter::new(0, 0), limited_to(5, 100));
        for _ in 0..3 {
            for _ in 0..5 {
                assert_eq!(refusal(limiter.permit(Some(&principal), 0)), None);
            }
            let refused = refusal(limiter.permit(Some(&principal), 0));
            assert!(matches!(refused, Some(Refusal::TooMany(..))), "{refused:?}");
            tokio::time::advance(Duration::from_millis(200)).await;
            assert_eq!(refusal(limiter.permit(Some(&principal), 0)), None);
            tokio::time::advance(Duration::from_secs(3)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_one_request_per_second_is_enforced() {
        let (limiter, principal) = (Limiter::new(0, 0), limited_to(1, 1));
        drop(limiter.permit(Some(&principal), 0).unwrap_or_default());
        assert!(refusal(limiter.permit(Some(&principal), 0)).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(refusal(limiter.permit(Some(&principal), 0)), None);
    }

    #[tokio::test]
    async fn a_slot_is_held_until_its_permit_is_dropped() {
        let (limiter, principal) = (Limiter::new(0, 0), limited_to(1000, 2));
        let held: Vec<_> = (0..2)
            .map(|_| limiter.permit(Some(&principal), 0))
            .collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(refusal(limiter.permit(Some(&principal), 0)).is_some());
        drop(held);
        assert_eq!(refusal(limiter.permit(Some(&principal), 0)), None);
    }

    #[tokio::test]
    async fn two_keys_of_a_namespace_share_its_memory() {
        let limiter = Limiter::new(4 << 20, 1 << 20);
        let (one, mut other) = (limited_to(1000, 100), limited_to(1000, 100));
        other.key = Some("2".into());
        let held = limiter.permit(Some(&one), 1 << 20);
        assert!(refusal(limiter.permit(Some(&other), 1)).is_some());
        other.namespace = "y".into();
        assert_eq!(refusal(limiter.permit(Some(&other), 1)), None);
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn anonymous_requests_share_a_limit_of_their_own() {
        let limiter = Limiter::new(0, 0);
        let held: Vec<_> = std::iter::repeat_with(|| limiter.anonymous())
            .take_while(Result::is_ok)
            .collect();
        assert_eq!(held.len(), ANONYMOUS_LIMITS.concurrency as usize);
        assert_eq!(refusal(limiter.permit(Some(&limited_to(1, 1)), 0)), None);
        drop(held);
        assert_eq!(refusal(limiter.anonymous()), None);
    }

    #[tokio::test]
    async fn changed_limits_apply_at_once() {
        let limiter = Limiter::new(0, 0);
        let held = limiter.permit(Some(&limited_to(1000, 1)), 0);
        assert!(refusal(limiter.permit(Some(&limited_to(1000, 1)), 0)).is_some());
        assert_eq!(refusal(limiter.permit(Some(&limited_to(1000, 2)), 0)), None);
        drop(held);
    }
}
