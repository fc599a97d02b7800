//! From a tunnel to its carriers: packets become bytes, and some are cut in transit.

use bytes::{BufMut, Bytes, BytesMut};
use eternaltcp_proto::{CarrierId, HEADER_LEN, Kind, Side, Transmit};

use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};

/// At this rate, in bytes per millisecond, a session that always has data looks like one that
/// rarely has.
const SLOW: u64 = 100;

impl SimEnd {
    /// Puts one packet on a carrier; `false` if there is none for any that has room.
    pub(crate) fn transmit(&mut self, env: &mut Env) -> bool {
        (0..self.carriers.len()).any(|index| {
            let (link, carrier) = self.carriers[index];
            self.transmit_on(env, link, carrier)
        })
    }

    fn transmit_on(&mut self, env: &mut Env, id: LinkId, carrier: CarrierId) -> bool {
        let Some(link) = env.links.get_mut(&id) else { return false };
        if link.room(self.side, env.now) == 0 {
            return false;
        }
        let replayed = self.tunnel.stats().replayed_packets;
        let Some(packet) = self.tunnel.poll_transmit(env.now, carrier) else { return false };
        let is_beside = self.tunnel.lead() != Some(carrier);
        if is_beside && packet.header.kind == Kind::Data {
            self.count_beside(env);
        }
        let replays = self.tunnel.stats().replayed_packets;
        let is_first_replay = replayed == self.replayed_before && replays > replayed;
        env.counters.replays += u64::from(is_first_replay);
        let is_early = packet.header.kind == Kind::Data && !self.tunnel.is_attached();
        env.counters.early_packets += u64::from(is_early);
        let bytes = self.encode(env, &packet);
        self.commit(env);
        let cut = env.links.get_mut(&id).and_then(|l| l.write(self.side, env.now, bytes));
        note!(env, "{:?} sends {:?} on link {id}", self.side, packet.header);
        env.counters.cuts_of_joined += u64::from(is_beside && cut.is_some());
        if let Some(at) = cut {
            note!(env, "link {id} is cut after {at} bytes of it");
            let is_replay = replays > replayed;
            count_cut(env, self.side, &packet, at, is_replay);
        }
        true
    }

    /// Counts a packet of data beside the lead.
    fn count_beside(&self, env: &mut Env) {
        let is_slow = |id| env.links.get(&id).is_none_or(|link| link.rate() <= SLOW);
        env.counters.joined_packets += 1;
        env.counters.joined_packets_slow += u64::from(self.links().all(is_slow));
    }

    /// Encodes the packet; a data byte may be changed, once.
    pub(crate) fn encode(&self, env: &mut Env, packet: &Transmit) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + packet.payload.len());
        bytes.put_slice(&packet.header.encode());
        bytes.put_slice(&packet.payload);
        if packet.header.kind == Kind::Data && env.corrupts.take_if(|s| *s == self.side).is_some() {
            let at = HEADER_LEN + env.rng.below(packet.payload.len() as u64) as usize;
            bytes[at] ^= 1 << env.rng.below(8);
            env.counters.corruptions += 1;
            note!(env, "a byte of {:?} is changed", packet.header);
            if let Some(id) = eternaltcp_proto::SessionId::new(packet.header.session) {
                env.model.of_session(id).for_each(|pair| pair.is_tainted = true);
            }
        }
        bytes.freeze()
    }
}

fn count_cut(env: &mut Env, side: Side, packet: &Transmit, at: usize, is_replay: bool) {
    let counters = &mut env.counters;
    let is_whole = at == HEADER_LEN + packet.payload.len();
    counters.cuts += 1;
    counters.cuts_in_header += u64::from(at > 0 && at < HEADER_LEN);
    counters.cuts_in_payload += u64::from(at > HEADER_LEN && !is_whole);
    counters.cuts_in_replay += u64::from(is_replay);
    match packet.header.kind {
        _ if is_whole => {}
        Kind::Attach => counters.cuts_in_attach += 1,
        Kind::Numbers | Kind::NumbersEnd if side == Side::Client => counters.cuts_in_attach += 1,
        Kind::Attached | Kind::Numbers | Kind::NumbersEnd => counters.lost_answers += 1,
        Kind::Ack => counters.cuts_in_ack += 1,
        _ => {}
    }
}
