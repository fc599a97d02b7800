//! An outgoing packet, as every part of the protocol makes it.

use bytes::Bytes;

use crate::packet::{Header, Kind};
use crate::seq::Seq;

/// A packet for the carrier. Once polled it counts as sent. If the carrier dies before it took the
/// packet, the numbers of the next attach show that.
#[derive(Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The header.
    pub header: Header,
    /// The payload. The header contains the length.
    pub payload: Bytes,
}

impl Transmit {
    /// Creates a packet of the tunnel itself.
    pub(crate) fn of_tunnel(kind: Kind, payload: Vec<u8>) -> Self {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = Header { length, ..header(kind, 0, Seq::default(), Seq::default()) };
        Self { header, payload: payload.into() }
    }

    /// Creates a packet without a payload. Session 0 is the tunnel itself.
    pub(crate) fn empty(kind: Kind, session: u32, seq: Seq, ack: Seq) -> Self {
        Self { header: header(kind, session, seq, ack), payload: Bytes::new() }
    }

    /// Creates a packet that raises a session's limit and also acknowledges.
    pub(crate) fn session_limit(session: u32, limit: u64, ack: Seq) -> Self {
        let header = Header { length: 8, ..header(Kind::Limit, session, Seq::default(), ack) };
        Self { header, payload: Bytes::copy_from_slice(&limit.to_le_bytes()) }
    }

    /// Creates a heartbeat that asks to be quiet for this many milliseconds.
    pub(crate) fn quiet(beat: Seq, millis: u64) -> Self {
        let mut quiet = Self::of_tunnel(Kind::Quiet, millis.to_le_bytes().to_vec());
        quiet.header.seq = beat;
        quiet
    }
}

fn header(kind: Kind, session: u32, seq: Seq, ack: Seq) -> Header {
    Header { kind, session, seq, ack, length: 0 }
}
