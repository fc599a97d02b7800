use super::*;

fn tunnel_bytes(state: &TunnelState) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    encode_tunnel(&mut writer, state);
    writer.into_bytes()
}

fn session_bytes(record: &SessionRecord) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    encode_session(&mut writer, record);
    writer.into_bytes()
}

fn tunnel() -> TunnelState {
    let peer = AttachSettings {
        dead_after: Duration::from_millis(3001),
        tunnel_limit: 1 << 40,
        session_limit: 77,
        keep_detached: Duration::from_secs(604_800),
    };
    TunnelState {
        side: Side::Server,
        id: Some(TunnelId([9; 16])),
        epoch: Epoch(u64::MAX),
        next_id: SessionId::new(4),
        peer_id: None,
        peer: Some(peer),
        tunnel_limit: 12,
        session_limit: 34,
        closing: Some(Closing::from_code(99)),
    }
}

fn sending(index: usize, phase: SendPhase) -> SendingState {
    SendingState {
        base: Seq::new(u32::MAX),
        next: Seq::new(3),
        numbering: 5,
        digest: Digest::new(1 << 63),
        offset: 10,
        end: 20,
        limit: 30,
        dropped: 40,
        phase,
        opening: (index % 4 == 2).then(|| (Kind::Open, Bytes::from_static(b"a:1"))),
        is_acknowledged: index.is_multiple_of(2),
        is_cut: index.is_multiple_of(3),
    }
}

fn receiving(phase: ReceivePhase) -> ReceivingState {
    ReceivingState {
        next: Seq::new(8),
        digest: Digest::new(2),
        offset: 100,
        taken: 7,
        taken_digest: Digest::new(3),
        limit: 200,
        used: 50,
        phase,
    }
}

/// Returns records with every variant of every field.
fn sessions() -> Vec<SessionRecord> {
    let reset = || Reset::with_detail(Cause::Other(300), "no such thing");
    let phases = [
        SendPhase::Open,
        SendPhase::Ending,
        SendPhase::Ended,
        SendPhase::Resetting(reset()),
        SendPhase::Reset(reset()),
        SendPhase::Done,
        SendPhase::DoneReset,
    ];
    let all = [
        ReceivePhase::Open,
        ReceivePhase::Finished,
        ReceivePhase::Discarding,
        ReceivePhase::DiscardedEnd,
        ReceivePhase::DiscardedReset,
    ];
    let openings = [
        OpeningState::Asked,
        OpeningState::Offered(Bytes::from_static(b"localhost:22")),
        OpeningState::Established,
    ];
    let sockets = [None, Some(SocketId { descriptor: 0, cookie: u64::MAX })];
    let of = |index: usize| SessionRecord {
        state: SessionState {
            id: SessionId::new(index as u32 + 1).unwrap(),
            opening: openings[index % 3].clone(),
            abort: (index % 2 == 1).then(reset),
            send: sending(index, phases[index % 7].clone()),
            receive: receiving(all[index % 5]),
        },
        socket: sockets[index % 2],
    };
    (0..210).map(of).collect()
}

#[test]
fn a_tunnels_state_is_read_as_it_was_written() {
    let mut state = tunnel();
    assert_eq!(decode_tunnel(&tunnel_bytes(&state)), Ok(state.clone()));
    (state.side, state.id, state.peer, state.closing) = (Side::Client, None, None, None);
    assert_eq!(decode_tunnel(&tunnel_bytes(&state)), Ok(state));
}

#[test]
fn a_sessions_record_is_read_as_it_was_written() {
    for record in sessions() {
        assert_eq!(decode_session(&session_bytes(&record)), Ok(record));
    }
}

#[test]
fn what_a_later_version_adds_is_ignored() {
    let record = &sessions()[5];
    let later = [&session_bytes(record)[..], b"more"].concat();
    assert_eq!(decode_session(&later).as_ref(), Ok(record));
}

#[test]
fn no_bytes_make_a_reader_panic() {
    for record in sessions() {
        let good = session_bytes(&record);
        for at in 0..good.len() {
            let _ = decode_session(&good[..at]);
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = decode_session(&bad);
            }
        }
    }
    let good = tunnel_bytes(&tunnel());
    for at in 0..good.len() {
        let _ = decode_tunnel(&good[..at]);
        let mut bad = good.clone();
        bad[at] = 0xff;
        let _ = decode_tunnel(&bad);
    }
}
