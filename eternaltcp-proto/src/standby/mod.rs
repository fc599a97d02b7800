//! Standby carriers: each is authenticated, belongs to a tunnel, and is not
//! attached. When the tunnel's carrier dies, only the attach is left to do.

mod beats;
mod client;
mod message;
mod server;

pub(crate) use beats::{Beats, Question};
pub use client::{Standby, StandbyConfig, StandbyEvent};
pub use message::StandbyRequest;
pub(crate) use message::{join, read_join};
pub(crate) use server::Waiting;
