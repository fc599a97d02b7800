//! Two EternalTCP tunnels in one process, on virtual time and faulty links.
//!
//! A [`Scenario`] is the meaning of a seed, and a [`World`] runs it: the two ends do the work of a
//! driver, links cut, stall and fall silent, and a reference model, which knows nothing of packets,
//! checks every delivered byte. At first there are faults; then they stop, and everything must end.
//! The same seed gives exactly the same event log.

#![forbid(unsafe_code)]

mod ambush;
mod announced;
mod app;
pub mod bodies;
mod campaign;
mod client;
mod counters;
mod damage;
mod deadline;
mod death;
mod dial;
mod end;
mod env;
mod faults;
pub mod fleet;
mod history;
pub mod hostile;
mod joined;
mod link;
mod link_faults;
mod log;
mod model;
mod pace;
mod path;
mod pattern;
mod pipe;
mod programs;
mod rare;
mod rng;
mod scenario;
mod server;
mod sides;
mod socket;
mod spare;
mod store;
mod transmit;
mod world;

pub use app::{AppPlan, Finish};
pub use campaign::{Campaign, Tally, repetition, run};
pub use counters::Counters;
pub use history::Happening;
pub use model::PairPlan;
pub use path::{Outage, SimPath};
pub use pipe::LinkNotice;
pub use rng::Rng;
pub use scenario::{Ambush, Crash, Cut, Deed, PathChange, Scenario};
pub use sides::{BOTH, Sides, other};
pub use world::{World, WorldOutcome};
