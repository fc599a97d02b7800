//! Standby carriers: each is authenticated, belongs to a tunnel, and is not
//! attached. When the tunnel's carrier dies, only the attach is left to do.

mod client;
mod message;
mod question;
mod server;

pub(crate) use client::MIN_INTERVAL;
pub use client::{Standby, StandbyConfig, StandbyEvent};
pub use message::StandbyRequest;
pub(crate) use message::{join, read_join};
pub(crate) use question::Question;
pub(crate) use server::Waiting;
