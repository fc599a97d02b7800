//! Early replay: the data that a client sends together with its attach, before it knows what the
//! server has.
//!
//! The server accepts the packets that fit before it sends its numbers, as if they had arrived on
//! the previous carrier. Nothing else of the attach changes. The last keystrokes therefore arrive
//! one round trip sooner, and at worst early packets are useless.

use bytes::Bytes;

use super::Tunnel;
use super::route::Route;
use crate::attach::{EARLY_BYTES, EARLY_PACKETS, FEATURE_EARLY};
use crate::id::SessionId;
use crate::packet::Header;
use crate::session::TunnelSession;
use crate::time::Time;
use crate::transmit::Transmit;

/// The result of the last attach's early packets.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Payload bytes that the last attach sent again.
    pub(super) replayed: u64,
    /// Whether the last attach had early packets and was not answered.
    pub(super) is_unanswered: bool,
}

impl Tunnel {
    /// Returns the packets to send with the next attach: for every session that the server
    /// certainly knows, the first packets that it may not have.
    pub(super) fn early_packets(&mut self, now: Time) -> Vec<Transmit> {
        let before = self.stats.replayed_bytes;
        let packets = self.cut_early(now);
        self.early.replayed = self.stats.replayed_bytes - before;
        self.stats.early_packets += packets.len() as u64;
        self.early.is_unanswered = !packets.is_empty();
        packets
    }

    fn cut_early(&mut self, now: Time) -> Vec<Transmit> {
        // A path may drop large packets and pass a small attach.
        if self.peer.features & FEATURE_EARLY == 0 || self.early.is_unanswered {
            return Vec::new();
        }
        let is_worth_it = |(id, session): (SessionId, &TunnelSession)| {
            (session.send().is_acknowledged() && session.send().has_data()).then_some(id)
        };
        let ids: Vec<_> = self.sessions.iter().filter_map(is_worth_it).collect();
        let (mut packets, mut room) = (Vec::new(), EARLY_BYTES);
        for id in ids {
            self.sessions.with(id, |session| session.send_mut().rewind());
            while packets.len() < EARLY_PACKETS
                && let Some(packet) = self.early_packet(now, id, room)
            {
                room -= packet.payload.len();
                packets.push(packet);
            }
        }
        packets
    }

    /// Returns the session's next data packet, if it is not larger than `room`.
    fn early_packet(&mut self, now: Time, id: SessionId, room: usize) -> Option<Transmit> {
        let packet = self.sessions.poll_early(id, room)?;
        self.packet(now, id, packet, Route::Attached)
    }

    /// Takes the early packets that are next in their sessions, and ignores the others. The numbers
    /// sent after this show which ones were of use.
    pub(super) fn take_early(&mut self, now: Time, packets: Vec<(Header, Bytes)>) {
        for (header, payload) in packets {
            let id = SessionId::new(header.session);
            let is_next = |id: &SessionId| {
                let session = self.sessions.get(*id);
                session.is_some_and(|session| {
                    header.seq == session.receive().next() && session.awaited_opening().is_none()
                })
            };
            if let Some(id) = id.filter(is_next) {
                // A packet that does not fit is sent again when its sender has the numbers.
                let taken = self.handle_data(now, id, payload).is_ok();
                self.stats.early_packets += u64::from(taken);
            }
        }
    }
}
