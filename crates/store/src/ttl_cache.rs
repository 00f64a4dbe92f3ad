//! A bounded cache whose entries expire.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use hutch_core::sync::Lock;

/// A cache with a time to live per entry. If it is full, a new entry replaces the
/// one that expires first. An expired entry stays until it is replaced or removed.
pub struct TtlCache<K, V> {
    capacity: usize,
    /// The values with the times when they expire.
    entries: Lock<HashMap<K, (Instant, V)>>,
}

impl<K: Hash + Eq + Clone, V: Clone> TtlCache<K, V> {
    /// An empty cache for at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Lock::default(),
        }
    }

    /// The value, unless it has expired.
    pub fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock();
        let (expires, value) = entries.get(key)?;
        (Instant::now() < *expires).then(|| value.clone())
    }

    /// True if there is an entry, expired or not.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.lock().contains_key(key)
    }

    /// Adds or replaces an entry that expires after `ttl`.
    pub fn insert(&self, key: K, value: V, ttl: Duration) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity && !entries.contains_key(&key) {
            let first = entries.iter().min_by_key(|(_, (expires, _))| *expires);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                entries.remove(&first);
            }
        }
        entries.insert(key, (Instant::now() + ttl, value));
    }

    pub fn remove(&self, key: &K) {
        self.entries.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_entry_expires_after_its_ttl() {
        let cache = TtlCache::new(2);
        cache.insert("who", "me", 2 * SECOND);
        tokio::time::advance(SECOND).await;
        assert_eq!(cache.get(&"who"), Some("me"));
        tokio::time::advance(SECOND).await;
        assert_eq!((cache.get(&"who"), cache.contains(&"who")), (None, true));
        cache.remove(&"who");
        assert!(!cache.contains(&"who"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_drops_the_entry_that_expires_first() {
        let cache = TtlCache::new(2);
        cache.insert("long", 1, 9 * SECOND);
        cache.insert("short", 2, SECOND);
        cache.insert("new", 3, 5 * SECOND);
        cache.insert("long", 4, 9 * SECOND);
        let got = ["long", "short", "new"].map(|key| cache.get(&key));
        assert_eq!(got, [Some(4), None, Some(3)]);
    }
}
