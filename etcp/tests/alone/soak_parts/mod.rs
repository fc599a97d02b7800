//! What a soak is made of: the proxies and their lanes, the schedule of faults, and something that
//! damages sessions on purpose.

mod fleet;
mod lane;
mod schedule;
mod tamper;

pub(crate) use fleet::Fleet;
pub(crate) use schedule::{Act, Schedule};
pub(crate) use tamper::{Damage, Tamper};
