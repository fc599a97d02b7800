//! Standby carriers. Each is authenticated and belongs to a tunnel, but is not attached. When the
//! tunnel's carrier dies, only the attach remains to be done.

mod client;
mod message;
mod question;
mod server;

pub(crate) use client::{Decision, MIN_INTERVAL, Standby};
pub use client::{StandbyConfig, StandbyLoss};
pub use message::StandbyRequest;
pub(crate) use message::{join, read_join};
pub(crate) use question::Question;
pub(crate) use server::Waiting;
