//! Random choices that a seed reproduces.

use std::ops::Range;

/// A generator that its seed determines completely (SplitMix64).
#[derive(Clone, Debug)]
pub struct TestRng(u64);

impl TestRng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uses the seed of `ETCP_SEED`, or else a fresh one, which is printed so that a run can be
    /// repeated.
    pub fn from_environment(test: &str) -> Self {
        let seed = match std::env::var("ETCP_SEED") {
            Ok(text) => text.parse().expect("ETCP_SEED is a number"),
            Err(_) => fresh_seed(),
        };
        super::tell(&format!("{test}: ETCP_SEED={seed} repeats the choices of this run"));
        Self::new(seed)
    }

    #[allow(clippy::should_implement_trait, reason = "it never ends, so no `Option` is wanted")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Returns `true` once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }

    /// Returns a number in `range`, each order of magnitude equally likely.
    pub fn magnitude(&mut self, range: Range<u64>) -> u64 {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let (low, high) = ((range.start as f64).ln(), (range.end as f64).ln());
        ((low + part * (high - low)).exp() as u64).clamp(range.start, range.end - 1)
    }

    /// Returns another, independent generator.
    pub fn split(&mut self) -> Self {
        Self::new(self.next())
    }
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The seed is short enough to be typed again.
    RandomState::new().hash_one("seed") % 1_000_000_000
}
