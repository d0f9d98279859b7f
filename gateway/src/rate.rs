//! Token buckets by key, bounded in number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One bucket for each key, all of the same size.
pub struct Buckets<K> {
    per_second: f64,
    burst: f64,
    by_key: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Most keys that are remembered.
const KEYS: usize = 16_384;

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self {
            per_second: per_second.max(f64::EPSILON),
            burst,
            by_key: Mutex::new(HashMap::new()),
        }
    }

    /// Takes `amount` tokens, or says how long to wait for them.
    pub fn take(&self, key: &K, amount: f64, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS && !buckets.contains_key(key) {
            self.make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(key.clone()).or_insert(Bucket {
            tokens: self.burst,
            at: now,
        });
        bucket.tokens = self.level(*bucket, now);
        bucket.at = now;
        if bucket.tokens >= amount {
            bucket.tokens -= amount;
            return Ok(());
        }
        Err(self.wait(amount - bucket.tokens))
    }

    /// Says how long to wait when less than one token is left; takes none.
    pub fn peek(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let buckets = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = buckets
            .get(key)
            .map_or(self.burst, |bucket| self.level(*bucket, now));
        if tokens >= 1.0 {
            Ok(())
        } else {
            Err(self.wait(1.0 - tokens))
        }
    }

    fn level(&self, bucket: Bucket, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + elapsed * self.per_second).min(self.burst)
    }

    fn wait(&self, missing: f64) -> Duration {
        Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::from_mins(1))
    }

    /// Forgets full buckets: they say nothing. When none is, the fullest goes.
    fn make_room(&self, buckets: &mut HashMap<K, Bucket>, now: Instant) {
        buckets.retain(|_, bucket| self.level(*bucket, now) < self.burst);
        if buckets.len() >= KEYS {
            let fullest = buckets
                .iter()
                .max_by(|(_, one), (_, other)| one.tokens.total_cmp(&other.tokens))
                .map(|(key, _)| key.clone());
            if let Some(key) = fullest {
                buckets.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let buckets = Buckets::new(10.0, 3.0);
        let start = Instant::now();
        for _ in 0..3 {
            buckets.take(&"a", 1.0, start).unwrap();
        }
        let wait = buckets.take(&"a", 1.0, start).unwrap_err();
        assert!(wait <= Duration::from_millis(101), "{wait:?}");
        buckets.take(&"b", 1.0, start).unwrap();
        buckets
            .take(&"a", 1.0, start + Duration::from_millis(110))
            .unwrap();
    }

    #[test]
    fn looking_takes_nothing() {
        let buckets = Buckets::new(1.0, 1.0);
        let start = Instant::now();
        buckets.peek(&"a", start).unwrap();
        buckets.take(&"a", 1.0, start).unwrap();
        buckets.peek(&"a", start).unwrap_err();
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let buckets = Buckets::new(0.001, 2.0);
        let start = Instant::now();
        for key in 0..KEYS + 100 {
            buckets.take(&key, 1.0, start).unwrap();
        }
        assert!(buckets.by_key.lock().unwrap().len() <= KEYS);
    }
}
