use super::*;
use crate::digest::Digest;
use crate::id::{Epoch, Side};
use crate::packet::READ_SIZE;
use crate::seq::Seq;
use crate::state::ReceivingState;

fn id(number: u32) -> SessionId {
    SessionId::new(number).unwrap()
}

fn tunnel() -> TunnelState {
    TunnelState {
        side: Side::Client,
        id: None,
        epoch: Epoch(3),
        next_id: Some(id(9)),
        peer_id: None,
        peer: None,
        tunnel_limit: 1 << 20,
        session_limit: 1 << 16,
        closing: None,
    }
}

/// Returns a session that has sent two packets, of 3 and 4 bytes, has 5 bytes more, and has given
/// 20 bytes to its socket.
fn session(number: u32) -> SessionState {
    SessionState {
        id: id(number),
        opening: OpeningState::Established,
        abort: None,
        send: SendingState {
            base: Seq::new(5),
            next: Seq::new(7),
            numbering: 1,
            digest: Digest::default(),
            offset: 100,
            end: 112,
            limit: 1 << 16,
            dropped: 0,
            phase: SendPhase::Open,
            opening: None,
            is_acknowledged: true,
            is_cut: false,
        },
        receive: ReceivingState {
            next: Seq::new(2),
            digest: Digest::default(),
            offset: 20,
            taken: 0,
            taken_digest: Digest::default(),
            limit: 1 << 16,
            used: 0,
            phase: ReceivePhase::Open,
        },
    }
}

fn packet(session: u32, numbering: u32, seq: u32, length: u32) -> PacketEntry {
    let boundary = Boundary { kind: Kind::Data, length };
    PacketEntry { session: id(session), numbering, seq: Seq::new(seq), boundary }
}

fn piece(session: u32, offset: u64, payload: &'static [u8]) -> Piece {
    Piece { session: id(session), offset, payload: Bytes::from_static(payload) }
}

/// Returns the stored contents of a tunnel with such a session.
fn contents() -> Contents {
    let socket = Some(SocketId { descriptor: 7, cookie: 70 });
    let record = SessionRecord { state: session(1), socket };
    let counts = Counts { consumed: 112, written: 20, has_failed: false };
    Contents {
        tunnel: Some(tunnel()),
        sessions: [(id(1), record)].into(),
        // The entries are in no order, and include some that a commit would have cleared.
        packets: vec![packet(1, 1, 6, 4), packet(1, 1, 5, 3), packet(1, 0, 6, 9)],
        pieces: vec![piece(1, 107, b"hijkl"), piece(1, 98, b"..abcdefg")],
        counts: [(id(1), counts)].into(),
        slot: None,
    }
}

fn slot(call: Call, count: Option<u32>, landed: &'static [u8]) -> Option<Slot> {
    Some(Slot { session: id(1), call, count, landed: Bytes::from_static(landed) })
}

/// Returns the only session that is found.
fn found(contents: Contents) -> RecoveredSession {
    let mut recovered = recover(contents).unwrap();
    assert_eq!(recovered.sessions.len(), 1);
    recovered.sessions.remove(0)
}

fn payload(found: &RecoveredSession) -> Vec<u8> {
    found.detached.payload.concat()
}

#[test]
fn what_is_kept_in_no_order_is_put_in_order() {
    let found = found(contents());
    assert!(!found.is_damaged && !found.is_suspect);
    assert_eq!(payload(&found), b"abcdefghijkl");
    let lengths: Vec<_> = found.detached.boundaries.iter().map(|it| it.length).collect();
    assert_eq!((lengths, found.detached.surplus), (vec![3, 4], 0));
    assert_eq!(found.socket, Some(SocketId { descriptor: 7, cookie: 70 }));
}

#[test]
fn a_store_without_a_tunnel_has_nothing() {
    assert!(recover(Contents { tunnel: None, ..contents() }).is_none());
    assert!(recover(Contents::default()).is_none());
}

#[test]
fn what_was_read_and_written_since_the_commit_counts() {
    let mut contents = contents();
    contents.counts.insert(id(1), Counts { consumed: 115, written: 33, has_failed: false });
    contents.pieces.push(piece(1, 112, b"mno"));
    let found = found(contents);
    assert_eq!(payload(&found), b"abcdefghijklmno");
    assert_eq!((found.detached.state.send.end, found.detached.surplus), (115, 13));
}

#[test]
fn a_session_with_a_gap_is_reset_and_no_other() {
    let damages: [fn(&mut Contents); 7] = [
        |it| drop(it.pieces.remove(0)),
        |it| drop(it.pieces.remove(1)),
        |it| it.pieces[0].offset += 1,
        |it| it.packets.truncate(0),
        |it| it.packets[1].numbering = 2,
        |it| it.counts.clear(),
        // A packet of more bytes than there are.
        |it| it.packets[0].boundary.length = READ_SIZE as u32,
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let mut contents = contents();
        damage(&mut contents);
        let mut other = session(3);
        (other.send.end, other.send.next) = (100, other.send.base);
        let record = SessionRecord { state: other, socket: None };
        contents.sessions.insert(id(3), record);
        let counts = Counts { consumed: 100, written: 20, has_failed: false };
        contents.counts.insert(id(3), counts);
        let recovered = recover(contents).unwrap();
        let damaged: Vec<_> = recovered.sessions.iter().map(|it| it.is_damaged).collect();
        assert_eq!(damaged, [true, false], "damage {number}");
        let detached = &recovered.sessions[0].detached;
        assert!(matches!(detached.state.send.phase, SendPhase::Resetting(_)), "damage {number}");
        let sessions = recovered.sessions.iter().map(|session| session.detached.clone());
        let restored = Tunnel::restore(Config::default(), recovered.tunnel.clone(), sessions);
        assert!(restored.is_ok(), "damage {number}");
    }
}

#[test]
fn the_kernels_count_of_a_read_brings_its_bytes() {
    let slot = slot(Call::Read(112), Some(2), b"mn");
    let found = found(Contents { slot, ..contents() });
    assert_eq!(payload(&found), b"abcdefghijklmn");
    assert!(!found.is_suspect);
}

#[test]
fn the_kernels_count_of_a_write_is_ahead_of_the_record() {
    let slot = slot(Call::Write(20), Some(6), b"");
    assert_eq!(found(Contents { slot, ..contents() }).detached.surplus, 6);
}

#[test]
fn a_result_that_was_noted_before_the_death_does_not_count_twice() {
    let old = slot(Call::Read(107), Some(5), b"hijkl");
    assert_eq!(payload(&found(Contents { slot: old, ..contents() })), b"abcdefghijkl");
    let old = slot(Call::Write(15), Some(5), b"");
    assert_eq!(found(Contents { slot: old, ..contents() }).detached.surplus, 0);
}

#[test]
fn a_read_whose_bytes_are_lost_is_a_gap() {
    for landed in [&b""[..], b"m", b"mnop"] {
        let slot = slot(Call::Read(112), Some(2), landed);
        assert!(found(Contents { slot, ..contents() }).is_damaged, "{landed:?}");
    }
    // The end of the stream has none.
    let slot = slot(Call::Read(112), Some(0), b"");
    assert!(!found(Contents { slot, ..contents() }).is_damaged);
}

#[test]
fn a_call_of_which_nothing_is_known_makes_its_session_suspect() {
    for call in [Call::Read(112), Call::Write(20)] {
        let slot = slot(call, None, b"");
        assert!(found(Contents { slot, ..contents() }).is_suspect, "{call:?}");
    }
}

#[test]
fn what_the_application_may_not_add_any_more_is_not_added() {
    let mut contents = contents();
    let record = contents.sessions.get_mut(&id(1)).unwrap();
    record.state.send.phase = SendPhase::Ending;
    contents.counts.insert(id(1), Counts { consumed: 115, written: 20, has_failed: false });
    assert_eq!(found(contents).detached.state.send.end, 112);
}

#[test]
fn a_socket_that_is_gone_takes_nothing_ahead() {
    let mut contents = contents();
    let record = contents.sessions.get_mut(&id(1)).unwrap();
    record.state.receive.phase = ReceivePhase::Discarding;
    contents.counts.insert(id(1), Counts { consumed: 112, written: 60, has_failed: false });
    assert_eq!(found(contents).detached.surplus, 0);
}

#[test]
fn an_end_that_the_peer_may_have_is_followed_by_nothing() {
    let ends = [SendPhase::Done, SendPhase::DoneReset, SendPhase::Reset(Reset::new(Cause::Killed))];
    for phase in ends {
        let mut contents = contents();
        let record = contents.sessions.get_mut(&id(1)).unwrap();
        record.state.send.phase = phase.clone();
        contents.pieces.clear();
        let found = found(contents);
        let ended = matches!(phase, SendPhase::Reset(_));
        match found.detached.state.send.phase {
            // If it has to be sent again, the data before it is missing.
            SendPhase::Reset(reset) if ended => assert_eq!(reset.cause, Cause::Corrupt),
            other => assert_eq!(other, phase),
        }
        assert_eq!(found.detached.boundaries.len(), usize::from(ended), "{phase:?}");
    }
}

#[test]
fn numbers_at_the_end_of_their_range_are_no_reason_to_panic() {
    let mut contents = contents();
    let record = contents.sessions.get_mut(&id(1)).unwrap();
    (record.state.send.base, record.state.send.next) = (Seq::new(u32::MAX - 1), Seq::new(1));
    (record.state.send.offset, record.state.send.end) = (u64::MAX - 1, u64::MAX);
    contents.counts.insert(id(1), Counts { consumed: u64::MAX, written: 0, has_failed: false });
    contents.pieces.push(piece(1, u64::MAX - 1, b"abc"));
    contents.slot = slot(Call::Read(u64::MAX), Some(9), b"123456789");
    assert!(found(contents).is_damaged);
}
