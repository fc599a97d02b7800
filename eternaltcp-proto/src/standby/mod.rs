//! Standby carriers: each is authenticated, belongs to a tunnel, and is not
//! attached. When the tunnel's carrier dies, only the attach is left to do.

mod beats;
mod client;
mod message;
mod server;

pub(crate) use beats::{Beats, Question};
pub use client::{Standby, StandbyConfig, StandbyEvent};
pub use message::StandbyRequest;
pub(crate) use server::Waiting;

use bytes::Bytes;

use crate::packet::{Header, Kind};
use crate::seq::Seq;
use crate::tunnel::Transmit;

/// A packet that has no payload, and is of no session.
pub(crate) fn bare(kind: Kind, seq: Seq, ack: Seq) -> Transmit {
    let header = Header { kind, session: 0, seq, ack, length: 0 };
    Transmit { header, payload: Bytes::new() }
}
