//! The memory budget: a limit on the bytes of all request bodies and responses in the
//! process, and on the part of it that one namespace may use. A reservation that does
//! not fit is refused at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::context::Refusal;

/// One semaphore permit is worth this many bytes, as tokio takes a `u32` of permits.
const UNIT_BYTES: u64 = 1024;
/// One namespace may use the whole budget divided by this.
const NAMESPACE_DIVISOR: u64 = 4;
/// With this many namespaces, unused ones are removed before another is added.
const NAMESPACES_BEFORE_CLEANUP: usize = 1024;
/// `Retry-After` if another request has to release memory first.
const MEMORY_RETRY: Duration = Duration::from_secs(1);

/// The memory budget of the process.
pub struct MemoryBudget {
    process: Pool,
    namespace_units: u32,
    namespaces: Mutex<HashMap<String, Pool>>,
}

#[derive(Clone)]
struct Pool {
    free: Arc<Semaphore>,
    units: u32,
}

/// One request's part of the budget; dropping it releases the memory.
pub struct MemoryPermit {
    process: Pool,
    namespace: Option<Pool>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    process: Option<OwnedSemaphorePermit>,
    namespace: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// A budget of `bytes`. It is raised to `largest_body` if it is smaller, and so is the
    /// limit of each namespace, so that a request with the largest body always fits.
    pub fn new(bytes: u64, largest_body: u64) -> Self {
        Self {
            process: Pool::new(units(bytes.max(largest_body))),
            namespace_units: units((bytes / NAMESPACE_DIVISOR).max(largest_body)),
            namespaces: Mutex::default(),
        }
    }

    /// A permit that holds nothing yet. Without a `namespace` only the limit of the
    /// process applies.
    pub fn permit(&self, namespace: Option<&str>) -> MemoryPermit {
        MemoryPermit {
            process: self.process.clone(),
            namespace: namespace.map(|namespace| self.pool_of(namespace)),
            held: Mutex::default(),
        }
    }

    fn pool_of(&self, namespace: &str) -> Pool {
        let mut pools = lock(&self.namespaces);
        if let Some(pool) = pools.get(namespace) {
            return pool.clone();
        }
        if pools.len() >= NAMESPACES_BEFORE_CLEANUP {
            pools.retain(|_, pool| Arc::strong_count(&pool.free) > 1);
        }
        let pool = Pool::new(self.namespace_units);
        pools.insert(namespace.to_owned(), pool.clone());
        pool
    }
}

impl MemoryPermit {
    /// Replaces the current reservation by one of `bytes`. A reservation larger than a
    /// limit takes the whole limit, so such a request runs alone.
    ///
    /// # Errors
    /// If other requests hold the memory. This permit then holds nothing.
    pub fn reserve(&self, bytes: u64) -> Result<(), Refusal> {
        let mut held = lock(&self.held);
        *held = Held::default();
        if bytes == 0 {
            return Ok(());
        }
        let mut reserved = Held::default();
        if let Some(namespace) = &self.namespace {
            let text = "too many bytes at once in this namespace";
            let permit = namespace.reserve(bytes);
            reserved.namespace = Some(permit.ok_or(Refusal::TooMany(text, MEMORY_RETRY))?);
        }
        let busy = Refusal::Busy("too many bytes are being worked on, try again");
        reserved.process = Some(self.process.reserve(bytes).ok_or(busy)?);
        *held = reserved;
        Ok(())
    }

    /// Releases all but `bytes` of the current reservation.
    pub fn shrink(&self, bytes: u64) {
        let mut held = lock(&self.held);
        let Held { process, namespace } = &mut *held;
        for permit in [process, namespace] {
            let excess = permit.as_mut().and_then(|permit| {
                let excess = permit.num_permits().checked_sub(units(bytes) as usize)?;
                permit.split(excess)
            });
            drop(excess);
        }
    }
}

impl Pool {
    fn new(units: u32) -> Self {
        let free = Arc::new(Semaphore::new(units as usize));
        Self { free, units }
    }

    fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = units(bytes).min(self.units);
        self.free.clone().try_acquire_many_owned(wanted).ok()
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX >> 3)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(
        budget: &MemoryBudget,
        namespace: Option<&str>,
        bytes: u64,
    ) -> Result<MemoryPermit, Refusal> {
        let permit = budget.permit(namespace);
        permit.reserve(bytes)?;
        Ok(permit)
    }

    #[test]
    fn bytes_are_bounded_for_one_namespace_and_for_all() {
        let budget = MemoryBudget::new(8 * UNIT_BYTES, UNIT_BYTES);
        let held = ["a", "b", "c", "d"].map(|namespace| {
            let permit = reserved(&budget, Some(namespace), 2 * UNIT_BYTES);
            let more = reserved(&budget, Some(namespace), 1).err();
            assert!(matches!(more, Some(Refusal::TooMany(..))), "{more:?}");
            permit
        });
        assert!(held.iter().all(Result::is_ok));
        for namespace in [None, Some("e")] {
            let full = reserved(&budget, namespace, 1).err();
            assert!(matches!(full, Some(Refusal::Busy(_))), "{full:?}");
        }
        drop(held);
        assert!(reserved(&budget, None, 8 * UNIT_BYTES).is_ok());
    }

    #[test]
    fn a_namespace_can_always_have_the_largest_body() {
        let budget = MemoryBudget::new(0, 5 * UNIT_BYTES);
        assert!(reserved(&budget, Some("a"), 5 * UNIT_BYTES).is_ok());
    }

    #[test]
    fn a_permit_that_shrinks_releases_memory() {
        let budget = MemoryBudget::new(4 * UNIT_BYTES, 4 * UNIT_BYTES);
        let permit = reserved(&budget, Some("a"), 4 * UNIT_BYTES).unwrap();
        permit.shrink(UNIT_BYTES + 1);
        let rest = reserved(&budget, Some("a"), 2 * UNIT_BYTES).unwrap();
        assert!(reserved(&budget, Some("a"), 1).is_err());
        // It holds less, so nothing changes.
        rest.shrink(3 * UNIT_BYTES);
        permit.reserve(0).unwrap();
        assert!(reserved(&budget, None, 2 * UNIT_BYTES).is_ok());
    }

    #[test]
    fn a_reservation_larger_than_the_budget_is_granted_alone() {
        let budget = MemoryBudget::new(4 * UNIT_BYTES, UNIT_BYTES);
        let small = reserved(&budget, Some("b"), 1).unwrap();
        assert!(reserved(&budget, None, 100 * UNIT_BYTES).is_err());
        drop(small);
        let large = reserved(&budget, Some("a"), 100 * UNIT_BYTES).unwrap();
        // In its namespace it takes the whole limit.
        assert!(reserved(&budget, Some("a"), 1).is_err());
        assert!(reserved(&budget, Some("b"), 1).is_err());
        drop(large);
        assert!(reserved(&budget, Some("a"), 1).is_ok());
    }

    #[test]
    fn unused_namespaces_are_removed() {
        let budget = MemoryBudget::new(4 * UNIT_BYTES, UNIT_BYTES);
        let held = reserved(&budget, Some("held"), UNIT_BYTES).unwrap();
        for number in 0..3 * NAMESPACES_BEFORE_CLEANUP {
            drop(reserved(&budget, Some(&number.to_string()), UNIT_BYTES).unwrap());
        }
        assert!(lock(&budget.namespaces).len() <= NAMESPACES_BEFORE_CLEANUP);
        assert!(reserved(&budget, Some("held"), 1).is_err());
        drop(held);
    }
}
