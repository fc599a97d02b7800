//! Early replay: what a client sends along with its attach, before it knows
//! what the server has.
//!
//! The server takes what fits before it tells its numbers, as if it had come
//! on the carrier before; nothing else of the attach changes. So the last
//! keystrokes are there a round trip sooner, and the worst that early packets
//! can be is useless.

use bytes::Bytes;

use super::Tunnel;
use super::route::Route;
use crate::attach::{EARLY_BYTES, EARLY_PACKETS, FEATURE_EARLY};
use crate::id::SessionId;
use crate::packet::Header;
use crate::session::Session;
use crate::time::Time;
use crate::transmit::Transmit;

/// How the last attach's early packets fared.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Payload bytes that the last attach sent again by itself.
    pub(super) replayed: u64,
    /// The last attach had early packets, and was not answered.
    pub(super) is_unanswered: bool,
}

impl Tunnel {
    /// What goes along with the next attach: of every session that the server
    /// surely knows, the first packets that it may not have.
    pub(super) fn early_packets(&mut self, now: Time) -> Vec<Transmit> {
        let before = self.stats.replayed_bytes;
        let packets = self.cut_early(now);
        self.early.replayed = self.stats.replayed_bytes - before;
        self.stats.early_packets += packets.len() as u64;
        self.early.is_unanswered = !packets.is_empty();
        packets
    }

    fn cut_early(&mut self, now: Time) -> Vec<Transmit> {
        // A path may swallow what is large, and pass an attach that is small.
        if self.peer.features & FEATURE_EARLY == 0 || self.early.is_unanswered {
            return Vec::new();
        }
        let is_worth_it = |(id, session): (SessionId, &Session)| {
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

    /// The session's next data packet, if it is no larger than `room`.
    fn early_packet(&mut self, now: Time, id: SessionId, room: usize) -> Option<Transmit> {
        let packet = self.sessions.poll_early(id, room)?;
        self.packet(now, id, packet, Route::Attached)
    }

    /// Takes the early packets that are next in their sessions, and passes over
    /// all others: the numbers told after this say what was of use.
    pub(super) fn take_early(&mut self, packets: Vec<(Header, Bytes)>) {
        for (header, payload) in packets {
            let id = SessionId::new(header.session);
            let is_next = |id: &SessionId| {
                let session = self.sessions.get(*id);
                session.is_some_and(|session| {
                    header.seq == session.receive().next() && session.awaited_opening().is_none()
                })
            };
            if let Some(id) = id.filter(is_next) {
                // What does not fit is sent again when its sender has been told.
                let taken = self.handle_data(id, payload).is_ok();
                self.stats.early_packets += u64::from(taken);
            }
        }
    }
}
