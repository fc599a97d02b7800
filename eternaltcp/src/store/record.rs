//! The encoding of a tunnel's and a session's state.

use bytes::Bytes;
use eternaltcp_proto::kept::{SessionRecord, SocketId};
use eternaltcp_proto::{
    AttachSettings, Cause, CleanText, Closing, Digest, Epoch, Kind, OpeningState, ReceivePhase,
    ReceivingState, Reset, SendPhase, SendingState, Seq, SessionId, SessionState, Side, TunnelId,
    TunnelState,
};
use std::time::Duration;

use super::fields::{Decoded, MalformedRecord, RecordReader, RecordWriter};

/// Encodes a tunnel's state.
pub(super) fn encode_tunnel(writer: &mut RecordWriter, state: &TunnelState) {
    writer.u8(match state.side {
        Side::Client => 1,
        Side::Server => 2,
    });
    writer.u8(state.id.is_some().into());
    writer.array(state.id.map_or([0; 16], |id| id.0));
    writer.u64(state.epoch.0);
    writer.u32(state.next_id.map_or(0, SessionId::get));
    writer.u32(state.peer_id.map_or(0, SessionId::get));
    writer.u8(state.peer.is_some().into());
    let none = Duration::ZERO;
    let peer = state.peer.as_ref();
    let durations = peer.map_or([none; 2], |it| [it.dead_after, it.keep_detached]);
    for duration in durations {
        writer.u64(duration.as_secs());
        writer.u32(duration.subsec_nanos());
    }
    writer.u64(peer.map_or(0, |it| it.tunnel_limit));
    writer.u64(peer.map_or(0, |it| it.session_limit));
    writer.u64(state.tunnel_limit);
    writer.u64(state.session_limit);
    // Zero means none.
    writer.u64(state.closing.map_or(0, |closing| u64::from(closing.code()) + 1));
}

/// Decodes the state that [`encode_tunnel`] has written.
pub(super) fn decode_tunnel(bytes: &[u8]) -> Decoded<TunnelState> {
    let mut reader = RecordReader::new(bytes);
    let side = match reader.u8() {
        1 => Side::Client,
        2 => Side::Server,
        _ => return Err(MalformedRecord),
    };
    let (has_id, id) = (reader.u8() > 0, TunnelId(reader.array()));
    let epoch = Epoch(reader.u64());
    let (next_id, peer_id) = (SessionId::new(reader.u32()), SessionId::new(reader.u32()));
    let has_peer = reader.u8() > 0;
    let mut duration = || Duration::from_secs(reader.u64()).saturating_add(nanos(reader.u32()));
    let (dead_after, keep_detached) = (duration(), duration());
    let (tunnel_limit, session_limit) = (reader.u64(), reader.u64());
    let peer = AttachSettings { dead_after, tunnel_limit, session_limit, keep_detached };
    let (tunnel_limit, session_limit) = (reader.u64(), reader.u64());
    let closing = reader.u64().checked_sub(1).map(u32::try_from).transpose();
    let closing = closing.map_err(|_| MalformedRecord)?.map(Closing::from_code);
    let (id, peer) = (has_id.then_some(id), has_peer.then_some(peer));
    Ok(TunnelState {
        side,
        id,
        epoch,
        next_id,
        peer_id,
        peer,
        tunnel_limit,
        session_limit,
        closing,
    })
}

fn encode_reset(writer: &mut RecordWriter, reset: &Reset) {
    writer.u32(reset.cause.code());
    writer.bytes(reset.detail.as_bytes());
}

fn decode_reset(reader: &mut RecordReader<'_>) -> Decoded<Reset> {
    let cause = Cause::from_code(reader.u32());
    Ok(Reset { cause, detail: CleanText::from_bytes(reader.bytes()?) })
}

fn nanos(nanos: u32) -> Duration {
    Duration::from_nanos(nanos.into())
}

/// Encodes a session's record.
pub(super) fn encode_session(writer: &mut RecordWriter, record: &SessionRecord) {
    let SessionRecord { state, socket } = record;
    writer.u32(state.id.get());
    // Zero means none.
    writer.u32(socket.map_or(0, |it| it.descriptor.wrapping_add(1).cast_unsigned()));
    writer.u64(socket.map_or(0, |it| it.cookie));
    encode_sending(writer, &state.send);
    encode_receiving(writer, &state.receive);
    match &state.opening {
        OpeningState::Established => writer.u8(0),
        OpeningState::Asked => writer.u8(1),
        OpeningState::Offered(payload) => {
            writer.u8(2);
            writer.bytes(payload);
        }
    }
    writer.u8(state.abort.is_some().into());
    state.abort.iter().for_each(|reset| encode_reset(writer, reset));
}

/// Decodes the record that [`encode_session`] has written.
pub(super) fn decode_session(bytes: &[u8]) -> Decoded<SessionRecord> {
    let mut reader = RecordReader::new(bytes);
    let id = SessionId::new(reader.u32()).ok_or(MalformedRecord)?;
    let descriptor = reader.u32().checked_sub(1).map(u32::cast_signed);
    let cookie = reader.u64();
    let socket = descriptor.map(|descriptor| SocketId { descriptor, cookie });
    let send = decode_sending(&mut reader)?;
    let receive = decode_receiving(&mut reader)?;
    let opening = match reader.u8() {
        0 => OpeningState::Established,
        1 => OpeningState::Asked,
        2 => OpeningState::Offered(Bytes::copy_from_slice(reader.bytes()?)),
        _ => return Err(MalformedRecord),
    };
    let abort = if reader.u8() > 0 { Some(decode_reset(&mut reader)?) } else { None };
    Ok(SessionRecord { state: SessionState { id, opening, abort, send, receive }, socket })
}

fn encode_sending(writer: &mut RecordWriter, send: &SendingState) {
    writer.u32(send.base.get());
    writer.u32(send.next.get());
    writer.u32(send.numbering);
    for word in [send.digest.get(), send.offset, send.end, send.limit, send.dropped] {
        writer.u64(word);
    }
    writer.u8(u8::from(send.is_acknowledged) | u8::from(send.is_cut) << 1);
    let (phase, reset) = match &send.phase {
        SendPhase::Open => (0, None),
        SendPhase::Ending => (1, None),
        SendPhase::Ended => (2, None),
        SendPhase::Resetting(reset) => (3, Some(reset)),
        SendPhase::Reset(reset) => (4, Some(reset)),
        SendPhase::Done => (5, None),
        SendPhase::DoneReset => (6, None),
    };
    writer.u8(phase);
    reset.into_iter().for_each(|reset| encode_reset(writer, reset));
    writer.u8(send.opening.is_some().into());
    if let Some((kind, payload)) = &send.opening {
        writer.u8(*kind as u8);
        writer.bytes(payload);
    }
}

fn decode_sending(reader: &mut RecordReader<'_>) -> Decoded<SendingState> {
    let (base, next) = (Seq::new(reader.u32()), Seq::new(reader.u32()));
    let numbering = reader.u32();
    let digest = Digest::new(reader.u64());
    let (offset, end) = (reader.u64(), reader.u64());
    let (limit, dropped) = (reader.u64(), reader.u64());
    let flags = reader.u8();
    let phase = match reader.u8() {
        0 => SendPhase::Open,
        1 => SendPhase::Ending,
        2 => SendPhase::Ended,
        3 => SendPhase::Resetting(decode_reset(reader)?),
        4 => SendPhase::Reset(decode_reset(reader)?),
        5 => SendPhase::Done,
        6 => SendPhase::DoneReset,
        _ => return Err(MalformedRecord),
    };
    let opening = if reader.u8() > 0 {
        let kind = Kind::from_wire(reader.u8().into()).ok_or(MalformedRecord)?;
        Some((kind, Bytes::copy_from_slice(reader.bytes()?)))
    } else {
        None
    };
    let (is_acknowledged, is_cut) = (flags & 1 > 0, flags & 2 > 0);
    Ok(SendingState {
        base,
        next,
        numbering,
        digest,
        offset,
        end,
        limit,
        dropped,
        phase,
        opening,
        is_acknowledged,
        is_cut,
    })
}

fn encode_receiving(writer: &mut RecordWriter, receive: &ReceivingState) {
    writer.u32(receive.next.get());
    let ReceivingState { offset, taken, limit, used, .. } = *receive;
    let digests = [receive.digest.get(), receive.taken_digest.get()];
    for word in [offset, taken, limit, used].into_iter().chain(digests) {
        writer.u64(word);
    }
    writer.u8(match receive.phase {
        ReceivePhase::Open => 0,
        ReceivePhase::Finished => 1,
        ReceivePhase::Discarding => 2,
        ReceivePhase::DiscardedEnd => 3,
        ReceivePhase::DiscardedReset => 4,
    });
}

fn decode_receiving(reader: &mut RecordReader<'_>) -> Decoded<ReceivingState> {
    let next = Seq::new(reader.u32());
    let (offset, taken) = (reader.u64(), reader.u64());
    let (limit, used) = (reader.u64(), reader.u64());
    let (digest, taken_digest) = (Digest::new(reader.u64()), Digest::new(reader.u64()));
    let phase = match reader.u8() {
        0 => ReceivePhase::Open,
        1 => ReceivePhase::Finished,
        2 => ReceivePhase::Discarding,
        3 => ReceivePhase::DiscardedEnd,
        4 => ReceivePhase::DiscardedReset,
        _ => return Err(MalformedRecord),
    };
    Ok(ReceivingState { next, digest, offset, taken, taken_digest, limit, used, phase })
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
