//! Counters of things that differ by one word.

use std::sync::atomic::{AtomicU64, Ordering};

/// The word for codes without a word of their own: a peer of a later version may send any code.
pub(crate) const OTHER: &str = "other";

/// A counter for each of some words, so that their number is bounded.
#[derive(Debug)]
pub(super) struct WordCounts {
    counts: Box<[(&'static str, AtomicU64)]>,
    others: AtomicU64,
}

impl WordCounts {
    pub(super) fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        let counts = words.into_iter().map(|word| (word, AtomicU64::new(0))).collect();
        Self { counts, others: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, word: &str, more: u64) {
        let own = self.counts.iter().find(|(it, _)| *it == word);
        own.map_or(&self.others, |(_, count)| count).fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the count of each word, also of those that never occurred.
    pub(super) fn get(&self) -> Vec<(&'static str, u64)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let known = self.counts.iter().map(|(word, count)| (*word, read(count)));
        known.chain([(OTHER, read(&self.others))]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_counted_and_unknown_ones_together() {
        let counts = WordCounts::new(["a", "b"]);
        assert_eq!(counts.get(), [("a", 0), ("b", 0), (OTHER, 0)]);
        for word in ["b", "code-77", "b", "code-78"] {
            counts.add(word, 2);
        }
        assert_eq!(counts.get(), [("a", 0), ("b", 4), (OTHER, 4)]);
    }
}
