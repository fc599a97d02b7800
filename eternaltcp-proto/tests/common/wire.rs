//! Packets made by hand, from `docs/protocol.md` and not from the code.

use bytes::Bytes;
use eternaltcp_proto::{HEADER_LEN, Transmit};

pub(crate) const DATA: u32 = 0;
pub(crate) const HEARTBEAT: u32 = 1;
pub(crate) const ECHO: u32 = 2;
pub(crate) const ACK: u32 = 3;
pub(crate) const OPEN: u32 = 4;
pub(crate) const OPENED: u32 = 5;
pub(crate) const END: u32 = 6;
pub(crate) const RESET: u32 = 7;
pub(crate) const LIMIT: u32 = 8;
pub(crate) const ATTACH: u32 = 9;
pub(crate) const ATTACHED: u32 = 10;
pub(crate) const REFUSED: u32 = 11;
pub(crate) const NUMBERS: u32 = 12;
pub(crate) const NUMBERS_END: u32 = 13;
pub(crate) const CLOSE: u32 = 14;
pub(crate) const STANDBY: u32 = 15;
pub(crate) const QUIET: u32 = 18;

/// Returns a whole packet.
pub(crate) fn packet(kind: u32, session: u32, seq: u32, ack: u32, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    for word in [kind, session, seq, ack, payload.len() as u32] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(payload);
    bytes.into()
}

/// Returns a packet of a tunnel, as bytes.
pub(crate) fn encode(transmit: &Transmit) -> Bytes {
    [&transmit.header.encode()[..], &transmit.payload].concat().into()
}

/// The fields of an `attach` payload.
#[derive(Clone)]
pub(crate) struct WireHello {
    pub(crate) version: u32,
    pub(crate) oldest: u32,
    pub(crate) epoch: u64,
    /// The limit that the peer states for a session at first.
    pub(crate) session_limit: u64,
    pub(crate) intent: Vec<u8>,
}

impl WireHello {
    /// Returns a request for a new tunnel.
    pub(crate) fn new_tunnel(epoch: u64) -> Self {
        let mut intent = vec![0];
        for part in ["key", "machine", "boot", "user", "name"] {
            intent.extend_from_slice(&(part.len() as u16).to_le_bytes());
            intent.extend_from_slice(part.as_bytes());
        }
        Self { version: 1, oldest: 1, epoch, session_limit: 256 << 10, intent }
    }

    /// Returns a request to resume a tunnel.
    pub(crate) fn resume(epoch: u64, tunnel: [u8; 16]) -> Self {
        let intent = [&[1][..], &tunnel].concat();
        Self { intent, ..Self::new_tunnel(epoch) }
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut bytes = b"etcp".to_vec();
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.oldest.to_le_bytes());
        bytes.extend_from_slice(&0_u64.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&settings(self.session_limit));
        bytes.extend_from_slice(&self.intent);
        bytes
    }

    pub(crate) fn packet(&self) -> Bytes {
        packet(ATTACH, 0, 0, 0, &self.payload())
    }
}

/// Returns the peer's settings: 3 s, 64 MiB, its limit for a session, 7 days.
fn settings(session_limit: u64) -> Vec<u8> {
    let fields = [3000, 64 << 20, session_limit, 604_800_000];
    fields.iter().flat_map(|field: &u64| field.to_le_bytes()).collect()
}

/// Returns a `numbers` packet.
pub(crate) fn numbers(
    session: u32,
    received: u32,
    delivered: u32,
    digest: u64,
    limit: u64,
) -> Bytes {
    let payload = [digest.to_le_bytes(), limit.to_le_bytes()].concat();
    packet(NUMBERS, session, received, delivered, &payload)
}

/// Returns a `numbers_end` packet.
pub(crate) fn numbers_end(count: u32) -> Bytes {
    packet(NUMBERS_END, 0, 0, 0, &count.to_le_bytes())
}

/// Returns a `numbers_end` packet that this many early packets follow.
pub(crate) fn numbers_end_early(count: u32, early: u32) -> Bytes {
    packet(NUMBERS_END, 0, 0, 0, &[count.to_le_bytes(), early.to_le_bytes()].concat())
}

/// Returns the payload of a reset.
pub(crate) fn reset(cause: u32) -> Vec<u8> {
    cause.to_le_bytes().to_vec()
}

/// Returns a client's `standby` packet.
pub(crate) fn standby(tunnel: [u8; 16]) -> Bytes {
    let versions = [1_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    packet(STANDBY, 0, 0, 0, &[b"etcp", &versions[..], &tunnel].concat())
}

/// Returns a server's `standby` packet: the carrier may be silent for this long.
pub(crate) fn stands_by(version: u32, silence_ms: u64) -> Bytes {
    let payload = [&version.to_le_bytes()[..], &silence_ms.to_le_bytes()].concat();
    packet(STANDBY, 0, 0, 0, &payload)
}
