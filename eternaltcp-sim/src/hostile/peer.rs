//! A hostile peer's knowledge of the protocol, and the packets that it makes.

use std::collections::BTreeMap;

use bytes::Bytes;
use eternaltcp_proto::{FEATURE_QUIET, Kind, Side, Transmit, TunnelId};

use super::input::{FuzzInput, packet};

pub(super) const DATA: u32 = 0;
pub(super) const HEARTBEAT: u32 = 1;
pub(super) const OPEN: u32 = 4;
pub(super) const OPENED: u32 = 5;
pub(super) const END: u32 = 6;
pub(super) const RESET: u32 = 7;
pub(super) const LIMIT: u32 = 8;
pub(super) const ATTACH: u32 = 9;
pub(super) const ATTACHED: u32 = 10;
pub(super) const NUMBERS: u32 = 12;
pub(super) const NUMBERS_END: u32 = 13;
pub(super) const STANDBY: u32 = 15;
pub(super) const JOIN: u32 = 16;
pub(super) const QUIET: u32 = 18;

/// The features that the peer states: all but takeover.
const FEATURES: u64 = 7 | FEATURE_QUIET;

/// Returns the first session that the peer of this side opens.
pub(super) fn first_of(victim: Side) -> u32 {
    if victim == Side::Server { 1 } else { 2 }
}

/// Numbers of one session, as its peer sees them.
#[derive(Clone, Copy, Debug, Default)]
struct PeerNumbers {
    /// The next one that the peer sends.
    next: u32,
    /// The next one that it acknowledges.
    ack: u32,
}

/// The state of the tunnel as its peer knows it.
#[derive(Debug)]
pub(super) struct Knowledge {
    sessions: BTreeMap<u32, PeerNumbers>,
    /// The next session that it opens.
    next_id: u32,
    /// Sessions that the tunnel listed at its last attach.
    listed: Vec<u32>,
}

impl Knowledge {
    pub(super) fn new(victim: Side) -> Self {
        Self { sessions: BTreeMap::new(), next_id: first_of(victim), listed: Vec::new() }
    }

    /// Clears everything except the highest ids.
    pub(super) fn clear(&mut self) {
        self.sessions.clear();
        self.listed.clear();
    }

    /// Returns a session number that was never used, if there is one.
    pub(super) fn fresh(&self, first: u32) -> Option<u32> {
        (self.next_id % 2 == first % 2 && self.next_id < 1 << 31).then_some(self.next_id)
    }

    /// Records what a packet of the tunnel says.
    pub(super) fn learn(&mut self, transmit: &Transmit) {
        let header = &transmit.header;
        match header.kind {
            Kind::Attach | Kind::Attached => self.listed.clear(),
            Kind::Numbers => {
                self.listed.push(header.session);
                self.sessions.entry(header.session).or_default().next = header.seq.get();
            }
            kind if kind.is_numbered() => {
                let ack = header.seq.get().wrapping_add(1);
                self.sessions.entry(header.session).or_default().ack = ack;
            }
            _ => {}
        }
    }

    fn pick(&self, input: &mut FuzzInput<'_>) -> u32 {
        let count = self.sessions.len().max(1);
        let at = usize::from(input.byte()) % count;
        self.sessions.keys().nth(at).copied().unwrap_or(self.next_id)
    }

    /// Returns a packet for the attached carrier: mostly a good one.
    pub(super) fn packet(&mut self, input: &mut FuzzInput<'_>) -> Bytes {
        const USUAL: [u32; 13] = [0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8, QUIET];
        // Only a client asks to be quiet.
        let usual = &USUAL[..USUAL.len() - usize::from(self.next_id.is_multiple_of(2))];
        let kind = match input.byte() {
            choice @ 0..=239 => usual[usize::from(choice) % usual.len()],
            choice => u32::from(choice) % 20,
        };
        let session = match kind {
            OPEN => {
                let id = input.near(self.next_id);
                self.sessions.insert(id, PeerNumbers::default());
                self.next_id = self.next_id.max(id).saturating_add(2);
                id
            }
            HEARTBEAT | 2 | 9..=11 | 13..=18 => u32::from(input.byte() > 250),
            _ => self.pick(input),
        };
        let numbers = self.sessions.get(&session).copied().unwrap_or_default();
        let (seq, ack) = (input.near(numbers.next), input.near(numbers.ack));
        if [DATA, OPEN, OPENED, END, RESET].contains(&kind) {
            self.sessions.entry(session).or_default().next = seq.wrapping_add(1);
        }
        let mut payload = payload(kind, input);
        input.damage(&mut payload);
        packet(kind, session, seq, ack, &payload)
    }

    /// Returns a packet for a joined carrier: mostly data, in any order.
    pub(super) fn packet_beside(&mut self, input: &mut FuzzInput<'_>) -> Bytes {
        if input.byte() > 230 {
            return self.packet(input);
        }
        let session = self.pick(input);
        let next = self.sessions.get(&session).map_or(0, |it| it.next);
        let seq = next.wrapping_add(u32::from(input.byte() % 4));
        packet(DATA, session, seq, 0, &payload(DATA, input))
    }

    /// Returns a client's complete request.
    pub(super) fn request(&self, input: &mut FuzzInput<'_>, epoch: u64, tunnel: TunnelId) -> Bytes {
        let mut body = b"etcp".to_vec();
        body.extend(input.near(1).to_le_bytes());
        body.extend(1_u32.to_le_bytes());
        body.extend(FEATURES.to_le_bytes());
        body.extend(epoch.to_le_bytes());
        body.extend(settings(input));
        body.push(1);
        body.extend(tunnel.0);
        input.damage(&mut body);
        let mut all = vec![packet(ATTACH, 0, 0, 0, &body)];
        all.extend(self.numbers(input, self.sessions.keys().copied()));
        let count = u32::try_from(all.len() - 1).unwrap_or(0);
        let early: Vec<_> = (0..input.byte() % 4).map(|_| self.early(input)).collect();
        let mut counts = input.near(count).to_le_bytes().to_vec();
        counts.extend(input.near(u32::try_from(early.len()).unwrap_or(0)).to_le_bytes());
        all.push(packet(NUMBERS_END, 0, 0, 0, &counts));
        all.extend(early);
        all.concat().into()
    }

    fn early(&self, input: &mut FuzzInput<'_>) -> Bytes {
        let session = self.pick(input);
        let next = self.sessions.get(&session).map_or(0, |it| it.next);
        packet(DATA, session, input.near(next), 0, &payload(DATA, input))
    }

    /// Returns a server's complete answer.
    pub(super) fn answer(
        &self,
        input: &mut FuzzInput<'_>,
        epoch: u64,
        tunnel: TunnelId,
    ) -> Vec<Bytes> {
        let mut body = input.near(1).to_le_bytes().to_vec();
        body.extend(FEATURES.to_le_bytes());
        body.extend(tunnel.0);
        body.extend(input.near_long(epoch).to_le_bytes());
        body.extend(settings(input));
        input.damage(&mut body);
        let mut all = vec![packet(input.near(ATTACHED), 0, 0, 0, &body)];
        all.extend(self.numbers(input, self.listed.iter().copied()));
        let count = u32::try_from(all.len() - 1).unwrap_or(0);
        all.push(packet(NUMBERS_END, 0, 0, 0, &input.near(count).to_le_bytes()));
        all
    }

    /// Returns the numbers that the peer claims to have received of some of these sessions.
    fn numbers(&self, input: &mut FuzzInput<'_>, ids: impl Iterator<Item = u32>) -> Vec<Bytes> {
        let mut all = Vec::new();
        for id in ids.take(40) {
            // Without input none is listed: all are then over.
            if input.byte().is_multiple_of(8) {
                continue;
            }
            let ack = self.sessions.get(&id).map_or(0, |it| it.ack);
            let mut payload = input.near_long(0).to_le_bytes().to_vec();
            payload.extend(input.near_long(4096).to_le_bytes());
            all.push(packet(NUMBERS, id, input.near(ack), input.near(ack), &payload));
        }
        all
    }

    /// Returns a client's request to stand by, and some heartbeats.
    pub(super) fn standby(&self, input: &mut FuzzInput<'_>, tunnel: TunnelId) -> Bytes {
        let mut body = b"etcp".to_vec();
        body.extend(input.near(1).to_le_bytes());
        body.extend(1_u32.to_le_bytes());
        body.extend(tunnel.0);
        input.damage(&mut body);
        let mut all = vec![packet(STANDBY, 0, 0, 0, &body)];
        all.extend((0..input.byte() % 4).map(|beat| packet(HEARTBEAT, 0, beat.into(), 0, b"")));
        all.concat().into()
    }
}

/// Returns the settings of a side: 3 s, limits, 7 days; or anything.
fn settings(input: &mut FuzzInput<'_>) -> Vec<u8> {
    let fields = [3000, 80 << 10, 4096, 604_800_000];
    fields.into_iter().flat_map(|field| input.near_long(field).to_le_bytes()).collect()
}

/// Returns a payload that fits a kind.
fn payload(kind: u32, input: &mut FuzzInput<'_>) -> Vec<u8> {
    let length = match kind {
        DATA => usize::from(input.byte()) * 4 + 1,
        OPEN => 1,
        END => 8,
        RESET | 14 => 4,
        LIMIT => return input.near_long(8192).to_le_bytes().to_vec(),
        ATTACH | ATTACHED => 60,
        11 => 5,
        17 => 4,
        NUMBERS => 16,
        NUMBERS_END => 4,
        STANDBY => 28,
        JOIN => 8,
        QUIET => return input.near_long(20_000).to_le_bytes().to_vec(),
        _ => 0,
    };
    vec![0; length]
}
