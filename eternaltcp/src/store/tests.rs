use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use eternaltcp_proto::kept::{Call, Contents, Kept, Recovered, SocketId, Store};
use eternaltcp_proto::{Cause, Config, READ_SIZE, Reset, SendPhase, SessionId, Side, Time, Tunnel};
use std::io::Write;
use std::os::fd::AsFd;

use super::pair::TunnelPair;
use super::*;

pub(super) fn memory() -> StoreMemory {
    let size = Size {
        tunnels: 4,
        sessions: 100,
        pieces: 1000,
        packets: 2000,
        payload: 4 << 20,
        listeners: 4,
    };
    StoreMemory::create(&size).unwrap()
}

#[test]
fn no_tunnel_of_many_with_a_session_each_is_left_out() {
    const TUNNELS: u32 = 200;
    let memory = StoreMemory::create(&Size::for_held(1 << 20, TUNNELS, TUNNELS)).unwrap();
    let all: Vec<_> = (0..TUNNELS)
        .map(|_| {
            let mut tunnel = Tunnel::new(Side::Client, Config::default());
            let mut kept = kept(&memory);
            let id = tunnel.open(Bytes::from_static(b"target:1")).unwrap();
            kept.adopt(id, SocketId { descriptor: 5, cookie: 6 });
            let _ = kept.commit(&mut tunnel);
            say(&mut kept, &mut tunnel, id, b"a word");
            let _ = kept.commit(&mut tunnel);
            (kept, tunnel)
        })
        .collect();
    assert!(!memory.0.is_short());
    let found = reopen(&memory).recover(drop).into_iter().filter_map(Kept::recover);
    let sessions = found.map(|(_, recovered)| recovered.sessions.len());
    assert_eq!(sessions.collect::<Vec<_>>(), vec![1; all.len()]);
}

#[test]
fn notes_and_the_time_of_detachment_are_found_again() {
    let memory = memory();
    let mut kept = kept(&memory);
    let mut tunnel = Tunnel::new(Side::Client, Config::default());
    let mut ids = Vec::new();
    let notes = [vec![], vec![1; 100], vec![2; 105], vec![3; 5000]];
    for note in &notes {
        let id = tunnel.open(Bytes::from_static(b"target:1")).unwrap();
        let encode = |writer: &mut RecordWriter| note.iter().for_each(|byte| writer.u8(*byte));
        kept.store_mut().set_session_note(id, encode);
        kept.adopt(id, SocketId { descriptor: 5, cookie: 6 });
        let _ = kept.commit(&mut tunnel);
        ids.push(id);
    }
    let bare = tunnel.open(Bytes::from_static(b"target:1")).unwrap();
    kept.adopt(bare, SocketId { descriptor: 5, cookie: 6 });
    let _ = kept.commit(&mut tunnel);
    kept.store_mut().set_note(b"an older one");
    kept.store_mut().set_note(b"of the tunnel");
    kept.store().set_detached_since(Some(Duration::from_millis(1500)));
    let (kept, _) = recover(&reopen(&memory));
    let store = kept.store();
    assert_eq!(store.found_note().as_deref(), Some(&b"of the tunnel"[..]));
    assert_eq!(store.detached_since(), Some(Duration::from_millis(1500)));
    for (id, note) in ids.iter().zip(&notes) {
        assert_eq!(store.found_session_note(*id).as_deref(), Some(&note[..]));
    }
    assert_eq!(store.found_session_note(bare), None);
}

/// Opens a store as the next process does.
pub(super) fn reopen(memory: &StoreMemory) -> StoreMemory {
    let [tables, payload] = memory.files().map(|it| it.try_clone_to_owned().unwrap());
    StoreMemory::open(tables, payload).unwrap()
}

pub(super) fn kept(memory: &StoreMemory) -> Kept<TunnelStore> {
    Kept::new(memory.new_tunnel().unwrap())
}

/// Returns the only tunnel of a store.
fn recover(memory: &StoreMemory) -> (Kept<TunnelStore>, Recovered) {
    let mut stores = memory.recover(drop);
    assert_eq!(stores.len(), 1);
    Kept::recover(stores.remove(0)).unwrap()
}

/// Sends data of a session's application through a socket.
fn say(kept: &mut Kept<TunnelStore>, tunnel: &mut Tunnel, id: SessionId, text: &[u8]) {
    let (mut here, there) = UnixStream::pair().unwrap();
    let mut rest = text;
    while !rest.is_empty() {
        let some = rest.len().min(50_000);
        here.write_all(&rest[..some]).unwrap();
        let count = read(kept, tunnel, id, there.as_fd());
        assert_eq!(count, some);
        rest = &rest[some..];
    }
}

fn read(
    kept: &mut Kept<TunnelStore>,
    tunnel: &mut Tunnel,
    id: SessionId,
    socket: BorrowedFd<'_>,
) -> usize {
    let reading = kept.begin_read(id);
    let count = kept.store_mut().receive(socket, READ_SIZE).unwrap();
    let bytes = kept.store_mut().landed(count);
    kept.end_read(reading, &bytes);
    tunnel.write(Time::ZERO, id, bytes);
    count
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (((at + seed) * 31) >> 3) as u8).collect()
}

/// Checks that the next process finds everything that two tunnels exchange, after each commit,
/// whatever was acknowledged meanwhile.
#[test]
fn what_the_next_program_finds_is_the_tunnel_that_was_committed() {
    let memory = memory();
    let mut pair = TunnelPair::attached(Config::default());
    let mut kept = kept(&memory);
    let mut ids = Vec::new();
    for (round, length) in [0, 1, 300, 5000, 40_000, 3, 100_000, 700, 1].into_iter().enumerate() {
        let id = pair.client.open(Bytes::from_static(b"target:1")).unwrap();
        ids.push(id);
        kept.adopt(id, SocketId { descriptor: 5, cookie: 6 });
        let _ = kept.commit(&mut pair.client);
        for (index, id) in ids.iter().enumerate() {
            if pair.client.capacity(*id) > 200_000 {
                say(&mut kept, &mut pair.client, *id, &pattern(length + index, round));
            }
        }
        if round == 4 {
            pair.client.finish(Time::ZERO, ids[0]);
            pair.client.reset(
                Time::ZERO,
                ids[1],
                Reset::with_detail(Cause::Killed, "x".repeat(390)),
            );
        }
        let _ = kept.commit(&mut pair.client);
        assert_eq!(kept.find_stray(&pair.client), None);
        assert_eq!(kept.find_difference(&pair.client), None, "round {round}");
        let (mut next, recovered) = recover(&reopen(&memory));
        assert!(recovered.sessions.iter().all(|session| !session.is_damaged), "round {round}");
        assert_eq!(next.find_difference(&pair.client), None, "round {round}, found again");
        if round % 3 == 2 {
            pair.exchange();
        }
    }
}

#[test]
fn the_next_program_goes_on_with_what_it_has_found() {
    let memory = memory();
    let mut pair = TunnelPair::attached(Config::default());
    let mut first = kept(&memory);
    let id = pair.client.open(Bytes::from_static(b"target:1")).unwrap();
    first.adopt(id, SocketId { descriptor: 5, cookie: 6 });
    let _ = first.commit(&mut pair.client);
    let text = pattern(90_000, 0);
    say(&mut first, &mut pair.client, id, &text[..60_000]);
    let _ = first.commit(&mut pair.client);
    pair.exchange();
    assert!(pair.server_takes(id, 1000) == text[..1000]);
    let _ = first.commit(&mut pair.client);
    drop(first);
    let memory = reopen(&memory);
    let (mut next, recovered) = recover(&memory);
    pair.client = next.restore(Config::default(), &recovered).unwrap();
    say(&mut next, &mut pair.client, id, &text[60_000..]);
    let _ = next.commit(&mut pair.client);
    assert_eq!(next.find_difference(&pair.client), None);
    pair.attach();
    let rest = pair.server_takes(id, usize::MAX);
    assert!(rest == text[1000..], "{} bytes", rest.len());
    pair.exchange();
    let _ = next.commit(&mut pair.client);
    assert_eq!(next.find_difference(&pair.client), None);
    assert_eq!(next.store_mut().contents().pieces, [], "all of it was acknowledged");
    assert_eq!(next.store_mut().contents().packets, []);
}

#[test]
fn a_read_that_nobody_noted_is_found_with_its_bytes() {
    for length in [5, 40_000] {
        let memory = memory();
        let mut pair = TunnelPair::attached(Config::default());
        let mut first = kept(&memory);
        let id = pair.client.open(Bytes::from_static(b"target:1")).unwrap();
        first.adopt(id, SocketId { descriptor: 5, cookie: 6 });
        let _ = first.commit(&mut pair.client);
        say(&mut first, &mut pair.client, id, b"noted, ");
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&pattern(length, 0)).unwrap();
        let reading = first.begin_read(id);
        assert_eq!(first.store_mut().receive(there.as_fd(), READ_SIZE).unwrap(), length);
        drop((reading, first));
        let (_, recovered) = recover(&reopen(&memory));
        let payload = recovered.sessions[0].detached.payload.concat();
        assert_eq!(payload, [&b"noted, "[..], &pattern(length, 0)].concat());
        // Another process dies before it continues.
        let (_, again) = recover(&reopen(&memory));
        assert_eq!(again.sessions[0].detached.payload.concat(), payload);
    }
}

#[test]
fn a_write_that_nobody_noted_is_ahead_of_the_record() {
    let memory = memory();
    let mut pair = TunnelPair::attached(Config::default());
    let mut first = kept(&memory);
    let id = pair.client.open(Bytes::from_static(b"target:1")).unwrap();
    first.adopt(id, SocketId { descriptor: 5, cookie: 6 });
    let _ = first.commit(&mut pair.client);
    let (here, _there) = UnixStream::pair().unwrap();
    let writing = first.begin_write(id);
    let parts = [std::io::IoSlice::new(b"seven b")];
    assert_eq!(first.store_mut().send(here.as_fd(), &parts).unwrap(), 7);
    drop((writing, first));
    let (_, recovered) = recover(&reopen(&memory));
    assert_eq!(recovered.sessions[0].detached.surplus, 7);
}

#[test]
fn a_commit_that_was_not_finished_is_not_found_and_never_counts_later() {
    let memory = memory();
    let mut pair = TunnelPair::attached(Config::default());
    let mut first = kept(&memory);
    let ids = [0; 2].map(|_| pair.client.open(Bytes::from_static(b"target:1")).unwrap());
    for id in ids {
        first.adopt(id, SocketId { descriptor: 5, cookie: 6 });
        let _ = first.commit(&mut pair.client);
    }
    let before = first.store_mut().contents();
    let mut changed = before.sessions[&ids[0]].clone();
    changed.state.send.phase = SendPhase::Ending;
    first.store_mut().put_session(&changed);
    first.store_mut().remove_session(ids[1]);
    drop(first);
    let (mut next, _) = recover(&reopen(&memory));
    assert_eq!(next.store_mut().contents().sessions, before.sessions);
    // The generation that was not committed is used again, for another commit.
    next.store_mut().commit_done();
    assert_eq!(next.store_mut().contents().sessions, before.sessions);
}

#[test]
fn a_tunnel_that_ended_leaves_nothing_and_its_records_are_used_again() {
    let memory = memory();
    for _ in 0..50 {
        let mut pair = TunnelPair::attached(Config::default());
        let mut kept = kept(&memory);
        for _ in 0..10 {
            let id = pair.client.open(Bytes::from(vec![b'x'; 400])).unwrap();
            kept.adopt(id, SocketId { descriptor: 5, cookie: 6 });
            let _ = kept.commit(&mut pair.client);
            say(&mut kept, &mut pair.client, id, b"some bytes");
        }
        let _ = kept.commit(&mut pair.client);
        assert_eq!(kept.find_difference(&pair.client), None);
        kept.into_store().end();
        assert!(reopen(&memory).recover(drop).is_empty());
    }
}

#[test]
fn a_store_that_is_full_loses_sessions_and_nothing_else() {
    let size =
        Size { tunnels: 1, sessions: 2, pieces: 3, packets: 4, payload: 128 << 10, listeners: 1 };
    let memory = StoreMemory::create(&size).unwrap();
    let mut pair = TunnelPair::attached(Config::default());
    let mut kept = kept(&memory);
    assert!(memory.new_tunnel().is_none() && !kept.store().is_short());
    for round in 0..5 {
        let id = pair.client.open(Bytes::from_static(b"target:1")).unwrap();
        kept.adopt(id, SocketId { descriptor: 5, cookie: 6 });
        let _ = kept.commit(&mut pair.client);
        say(&mut kept, &mut pair.client, id, &pattern(100_000, round));
    }
    let _ = kept.commit(&mut pair.client);
    assert!(kept.store().is_short());
    let (mut next, recovered) = recover(&reopen(&memory));
    assert!(recovered.sessions.len() <= 2);
    assert!(next.restore(Config::default(), &recovered).is_ok());
}

#[test]
fn memory_goes_back_to_the_system_after_a_burst() {
    let memory = memory();
    let mut pair = TunnelPair::attached(Config::default());
    let mut kept = kept(&memory);
    let id = pair.client.open(Bytes::from_static(b"target:1")).unwrap();
    kept.adopt(id, SocketId { descriptor: 5, cookie: 6 });
    let _ = kept.commit(&mut pair.client);
    let held = || rustix::fs::fstat(memory.files()[1]).unwrap().st_blocks * 512;
    for round in 0..20 {
        say(&mut kept, &mut pair.client, id, &pattern(200_000, round));
        let _ = kept.commit(&mut pair.client);
        pair.exchange();
        let _ = pair.server_takes(id, usize::MAX);
        pair.exchange();
        let _ = kept.commit(&mut pair.client);
    }
    assert!(held() > 0);
    for _ in 0..3 {
        kept.store_mut().trim();
        memory.trim();
    }
    assert_eq!(held(), 0);
}

#[test]
fn damaged_stores_are_refused_or_restored() {
    // A generator with a fixed seed, so that all runs are the same.
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut whole = 0;
    for _ in 0..300 {
        let data: Vec<u8> = (0..1 + next() % 40).flat_map(|_| next().to_le_bytes()).collect();
        whole += u32::from(body::damaged(&data));
    }
    assert!((10..290).contains(&whole), "{whole}");
}

#[test]
fn a_slot_that_was_cleared_says_nothing() {
    let memory = memory();
    let mut store = memory.new_tunnel().unwrap();
    let id = SessionId::first_of(Side::Client);
    store.put_slot(id, Call::Write(8));
    assert!(store.contents().slot.is_some_and(|slot| slot.count.is_none()));
    store.clear_slot();
    assert_eq!(store.contents().slot, None);
}

#[test]
fn bytes_that_are_read_before_their_session_is_committed_are_kept() {
    let memory = memory();
    let mut store = memory.new_tunnel().unwrap();
    let id = SessionId::first_of(Side::Client);
    store.put_piece(id, 0, &Bytes::from_static(b"early"));
    store.put_consumed(id, 5);
    let Contents { pieces, counts, .. } = store.contents();
    assert_eq!(pieces.iter().map(|it| &it.payload[..]).collect::<Vec<_>>(), [b"early"]);
    assert_eq!(counts[&id].consumed, 5);
}
