//! What the tests of the real programs stand on.
//!
//! A namespace test makes a [`world::World`] (a client with two uplinks, a router, a server, each a
//! network namespace of its own), starts real programs in it, and moves the client about while they
//! work. The others start the programs on loopback ([`loopback::Loopback`]), where they like through
//! a [`relay::Relay`] that kills their carriers.
//! Everything a test made (processes, namespaces, folders) is gone when its values are dropped,
//! also after a panic; then the end of every program's log is printed.

#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(unused_imports, reason = "each test file uses its own part of this module")]

pub(crate) mod checked;
pub(crate) mod fault;
pub(crate) mod folder;
pub(crate) mod journey;
pub(crate) mod keys;
pub(crate) mod link;
pub(crate) mod loopback;
pub(crate) mod middlebox;
pub(crate) mod names;
pub(crate) mod netns;
pub(crate) mod nginx;
pub(crate) mod pair;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod relay;
pub(crate) mod roam;
pub(crate) mod router;
pub(crate) mod running;
pub(crate) mod skip;
pub(crate) mod sshd;
pub(crate) mod streams;
pub(crate) mod terminal;
pub(crate) mod transfer;
pub(crate) mod usage;
pub(crate) mod wait;
pub(crate) mod workload;
pub(crate) mod world;

pub(crate) use fault::Fault;
pub(crate) use folder::Folder;
pub(crate) use journey::Journey;
pub(crate) use loopback::Loopback;
pub(crate) use pair::{Family, Pair, Sproxy};
pub(crate) use process::{Launch, Process, User};
pub(crate) use random::Random;
pub(crate) use relay::Relay;
pub(crate) use router::Direction;
pub(crate) use world::World;

/// Tells what a test measured or chose. Not `println!`: the harness would keep it to itself.
pub(crate) fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\n{text}");
}
