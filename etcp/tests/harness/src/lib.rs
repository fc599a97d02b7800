//! The harness for tests of the real programs.
//!
//! A namespace test makes a [`world::TestWorld`] (a client with two uplinks, a router, a server,
//! each a network namespace of its own), starts real programs in it, and moves the client about
//! while they work. The others start the programs on loopback ([`local::Loopback`]), where they
//! like through a [`relay::Relay`] that kills their carriers. Everything a test made (processes,
//! namespaces, folders) is gone when its values are dropped, also after a panic; then the end of
//! every program's log is printed.

#![allow(missing_docs, reason = "the names of these helpers document them")]
#![allow(
    clippy::new_without_default,
    reason = "a world or a folder is made by name, not by default"
)]

pub mod checked;
pub mod fault;
pub mod fleet;
pub mod folder;
pub mod journey;
pub mod keys;
pub mod link;
pub mod local;
pub mod loopback;
pub mod middlebox;
pub mod names;
pub mod netns;
pub mod nginx;
pub mod pair;
pub mod process;
pub mod process_fault;
pub mod random;
pub mod relay;
pub mod roam;
pub mod router;
pub mod running;
pub mod skip;
pub mod ssh_site;
pub mod sshd;
pub mod streams;
pub mod terminal;
pub mod transfer;
pub mod usage;
pub mod wait;
pub mod worker;
pub mod workload;
pub mod world;
pub mod world_site;

pub use eternaltcp_sys::testport::{HeldPort, refused};
pub use fault::NetworkFault;
pub use folder::TestFolder;
pub use journey::Journey;
pub use local::Loopback;
pub use pair::{IpFamily, ProxyPair, Sproxy};
pub use process::{Launch, Process, RunAs};
pub use process_fault::ProcessFault;
pub use random::TestRng;
pub use relay::Relay;
pub use router::Direction;
pub use world::TestWorld;
pub use world_site::WorldSite;

/// Reports what a test measured or chose. Not `println!`: the harness would capture it.
pub fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\n{text}");
}
