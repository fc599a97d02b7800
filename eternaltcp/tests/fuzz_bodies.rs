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

#[test]
#[cfg(target_os = "linux")]
fn no_damage_of_a_store_makes_the_next_program_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    fuzz::seeded::run(fuzz::store, &corpus.join("store"), 1000);
}

#[test]
fn no_bytes_make_a_parser_or_tls_panic_or_grow() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (body, name, runs) in BODIES {
        fuzz::seeded::run(body, &corpus.join(name), runs);
    }
}
