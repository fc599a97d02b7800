//! The contents of a tunnel's store, changed as the input bytes say.

use bytes::Bytes;
use eternaltcp_proto::kept::{Call, Contents, PacketEntry, SessionRecord, Slot};
use eternaltcp_proto::{
    Cause, Closing, Digest, Epoch, Kind, OpeningState, ReceivePhase, Reset, SendPhase, Seq,
    SessionId, TunnelId,
};

/// Input bytes for one change: the kind of entry, its index, and its new value.
const CHANGE: usize = 10;

/// Changes `contents` as `data` says.
pub(crate) fn damage(contents: &mut Contents, data: &[u8]) {
    for change in data.chunks_exact(CHANGE) {
        let value = change[2..].try_into().map(u64::from_le_bytes).unwrap_or_default();
        let (what, which) = (change[0], usize::from(change[1]));
        match what % 8 {
            0 => damage_tunnel(contents, which, value),
            1 | 2 => damage_record(contents, what / 8, which, value),
            3 => damage_packets(contents, what / 8, which, value),
            4 => damage_pieces(contents, what / 8, which, value),
            5 => damage_counts(contents, which, value),
            6 => damage_slot(contents, which, value),
            _ => drop(contents.sessions.pop_first()),
        }
    }
}

fn pick<T>(all: &mut [T], which: usize) -> Option<&mut T> {
    let count = all.len().max(1);
    all.get_mut(which % count)
}

fn reset(value: u64) -> Reset {
    Reset::with_detail(Cause::from_code(value as u32), format!("{value}"))
}

fn damage_tunnel(contents: &mut Contents, which: usize, value: u64) {
    let Some(tunnel) = &mut contents.tunnel else { return };
    match which % 9 {
        0 => tunnel.epoch = Epoch(value),
        1 => tunnel.next_id = SessionId::new(value as u32),
        2 => tunnel.peer_id = SessionId::new(value as u32),
        3 => tunnel.id = (value > 0).then_some(TunnelId([value as u8; 16])),
        4 => tunnel.tunnel_limit = value,
        5 => tunnel.session_limit = value,
        6 => tunnel.closing = Some(Closing::from_code(value as u32)),
        7 => tunnel.peer = None,
        _ => {
            if let Some(peer) = &mut tunnel.peer {
                (peer.tunnel_limit, peer.session_limit) = (value, value.rotate_left(9));
            }
        }
    }
}

fn damage_record(contents: &mut Contents, field: u8, which: usize, value: u64) {
    let mut all: Vec<_> = contents.sessions.values_mut().collect();
    let Some(SessionRecord { state, .. }) = pick(&mut all, which) else { return };
    let (send, receive) = (&mut state.send, &mut state.receive);
    match field % 22 {
        0 => send.base = Seq::new(value as u32),
        1 => send.next = Seq::new(value as u32),
        2 => send.numbering = value as u32,
        3 => send.digest = Digest::new(value),
        4 => send.offset = value,
        5 => send.end = value,
        6 => send.limit = value,
        7 => send.dropped = value,
        8 => send.opening = None,
        9 => send.opening = Some((Kind::Open, Bytes::from_static(b"elsewhere"))),
        10 => (send.is_acknowledged, send.is_cut) = (value & 1 > 0, value & 2 > 0),
        11 => send.phase = send_phase(value),
        12 => receive.next = Seq::new(value as u32),
        13 => receive.digest = Digest::new(value),
        14 => receive.offset = value,
        15 => receive.taken = value,
        16 => receive.taken_digest = Digest::new(value),
        17 => (receive.limit, receive.used) = (value, value.rotate_left(7)),
        18 => receive.phase = receive_phase(value),
        19 => state.opening = OpeningState::Offered(Bytes::from_static(b"offered")),
        20 => state.opening = OpeningState::Asked,
        _ => state.abort = Some(reset(value)),
    }
}

fn send_phase(value: u64) -> SendPhase {
    match value % 7 {
        0 => SendPhase::Open,
        1 => SendPhase::Ending,
        2 => SendPhase::Ended,
        3 => SendPhase::Resetting(reset(value)),
        4 => SendPhase::Reset(reset(value)),
        5 => SendPhase::Done,
        _ => SendPhase::DoneReset,
    }
}

fn receive_phase(value: u64) -> ReceivePhase {
    match value % 5 {
        0 => ReceivePhase::Open,
        1 => ReceivePhase::Finished,
        2 => ReceivePhase::Discarding,
        3 => ReceivePhase::DiscardedEnd,
        _ => ReceivePhase::DiscardedReset,
    }
}

fn damage_packets(contents: &mut Contents, field: u8, which: usize, value: u64) {
    if field.is_multiple_of(8) && !contents.packets.is_empty() {
        contents.packets.swap_remove(which % contents.packets.len());
        return;
    }
    let Some(packet) = pick(&mut contents.packets, which) else { return };
    let PacketEntry { session, numbering, seq, boundary } = packet;
    match field % 8 {
        1 => *session = SessionId::new(value as u32).unwrap_or(*session),
        2 => *numbering = value as u32,
        3 => *seq = Seq::new(value as u32),
        4 => boundary.length = value as u32,
        5 => boundary.kind = Kind::from_wire(value as u32 % 17).unwrap_or(Kind::Data),
        6 => boundary.length = value as u32 % 1024,
        _ => *seq = seq.plus(value as u32 % 8),
    }
}

fn damage_pieces(contents: &mut Contents, field: u8, which: usize, value: u64) {
    if field.is_multiple_of(4) && !contents.pieces.is_empty() {
        contents.pieces.swap_remove(which % contents.pieces.len());
        return;
    }
    let Some(piece) = pick(&mut contents.pieces, which) else { return };
    match field % 4 {
        1 => piece.offset = value,
        2 => piece.payload.truncate(value as usize % (piece.payload.len() + 1)),
        _ => piece.session = SessionId::new(value as u32).unwrap_or(piece.session),
    }
}

fn damage_counts(contents: &mut Contents, which: usize, value: u64) {
    let mut all: Vec<_> = contents.counts.values_mut().collect();
    let Some(counts) = pick(&mut all, which / 4) else { return };
    match which % 4 {
        0 => counts.consumed = value,
        1 => counts.written = value,
        2 => counts.written = value % 4096,
        _ => counts.has_failed = true,
    }
}

fn damage_slot(contents: &mut Contents, which: usize, value: u64) {
    let Some(session) = SessionId::new(which as u32 % 8 + 1) else { return };
    let is_read = value & 1 > 0;
    let call = if is_read { Call::Read(value >> 16) } else { Call::Write(value >> 16) };
    let count = (value & 2 > 0).then_some(value as u32 >> 8);
    let landed = Bytes::from(vec![5; (value as usize >> 2) % 100]);
    contents.slot = Some(Slot { session, call, count, landed });
}
