//! The wait before a retry.

use std::time::Duration;

/// A wait that doubles with every failure, between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Waits of `first` after the first failure and of at most `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The wait after that many failures in a row. Zero and one failure have the same wait.
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_from_the_first_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(4));
        let waits = [0, 1, 2, 3, 5, 6, 1000].map(|failures| backoff.after(failures).as_millis());
        assert_eq!(waits, [200, 200, 400, 800, 3200, 4000, 4000]);
        let forever = Backoff::new(Duration::from_secs(1), Duration::MAX);
        assert!(forever.after(u32::MAX) >= Duration::from_secs(1 << 31));
    }
}
