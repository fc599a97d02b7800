//! Seeded input for the fuzz bodies: the corpus of `fuzz/`, and random changes of it.

use std::path::Path;

/// Runs a body on the files of its corpus, then `runs` times on random bytes, and on those files with
/// a few bytes changed, cut out or repeated. Every call makes the same runs.
///
/// # Panics
/// The body panics. Or it accepts no file of the corpus, no changed input, or every changed input.
pub fn run(body: impl Fn(&[u8]) -> bool, folder: &Path, runs: u32) {
    let (corpus, name) = (corpus(folder), folder.display());
    let taken = corpus.iter().filter(|seed| body(seed)).count();
    assert!(taken > 0, "{name}: nothing of its corpus is taken");
    let mut numbers = RandomNumbers(u64::from(runs));
    let taken = (0..runs).filter(|_| body(&numbers.mutated(&corpus))).count();
    assert!(taken > 0 && taken < runs as usize, "{name}: {taken} of {runs} were taken");
}

/// Pseudo-random numbers.
struct RandomNumbers(u64);

impl RandomNumbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Returns a changed seed, or random bytes.
    fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        if self.below(10) == 0 {
            let length = self.below(300);
            return (0..length).map(|_| self.byte()).collect();
        }
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + self.below(40)).min(bytes.len());
            match self.below(6) {
                0 | 1 if at < bytes.len() => bytes[at] = self.byte(),
                2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                3 => bytes.truncate(at + 1),
                4 => drop(bytes.drain(at..end)),
                _ => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        bytes
    }
}

fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files.into_iter().filter_map(|file| std::fs::read(file).ok()).collect()
}
