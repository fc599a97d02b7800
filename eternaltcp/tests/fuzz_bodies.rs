//! The fuzz bodies on the corpus of `fuzz/`, as it is and with a few bytes changed, cut
//! out or repeated, and on random bytes.

use std::path::Path;

use eternaltcp::fuzz;

/// A body, the folder of its corpus, and how many times it runs here.
type Body = (fn(&[u8]) -> bool, &'static str, u32);

const BODIES: [Body; 9] = [
    (fuzz::authorized_keys, "authorized_keys", 3000),
    (fuzz::known_hosts, "known_hosts", 3000),
    (fuzz::addresses, "addresses", 5000),
    (fuzz::dynamic, "dynamic", 3000),
    (fuzz::open_payload, "open_payload", 5000),
    (fuzz::control, "control", 3000),
    (fuzz::key_file, "key_file", 1000),
    (fuzz::agent, "agent", 3000),
    (fuzz::tls, "tls", 400),
];

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Returns a mutation of one of these.
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

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("its entry").path())
        .collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).expect("a seed")).collect()
}

#[test]
fn no_bytes_make_a_parser_or_tls_panic_or_grow() {
    for (body, name, runs) in BODIES {
        let corpus = corpus(name);
        let taken = corpus.iter().filter(|seed| body(seed)).count();
        assert!(taken > 0, "{name}: nothing of its corpus is taken");
        let mut numbers = Numbers(u64::from(runs));
        let taken = (0..runs).filter(|_| body(&numbers.mutated(&corpus))).count() as u32;
        assert!(taken > 0 && taken < runs, "{name}: {taken} of {runs} were taken");
    }
}
