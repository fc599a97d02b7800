//! The parts of a soak: the proxies and their lanes, the schedule of faults, and deliberate damage.

mod fleet;
mod lane;
mod schedule;
mod tamper;

pub(crate) use fleet::SoakFleet;
pub(crate) use schedule::{Act, Schedule};
pub(crate) use tamper::{TamperKind, TamperingRelay};
