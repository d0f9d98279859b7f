use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Random numbers from a seed: SplitMix64.
#[derive(Debug)]
pub struct Generator(AtomicU64);

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// One whose numbers depend on this one's, but not on how many either has drawn later.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(AtomicU64::new(self.next()))
    }

    pub fn next(&self) -> u64 {
        let state = self.0.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.store(state, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when there is none.
    pub fn below(&self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&self, from: &[T]) -> Option<T> {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from.get(index).cloned()
    }

    /// A time from `least` to `most` milliseconds, both included.
    pub fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most.saturating_sub(least) + 1))
    }
}
