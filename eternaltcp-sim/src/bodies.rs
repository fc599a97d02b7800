//! Fuzz bodies, which pass arbitrary bytes to the core. It must neither panic nor hold more than
//! its limits. Each is an ordinary function, which tests call with seeded input and fuzzers with
//! their own.

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::kept::{Contents, Counts, Kept, Piece, RecoveredSession, Store};
use eternaltcp_proto::{
    Acceptor, Cause, Config, Delivery, DetachedSession, Instance, Intent, Progress, READ_SIZE,
    RESERVE, Reset, Side, StandbyConfig, Time, Transmit, Tunnel, TunnelId,
};

use crate::damage::damage;
use crate::store::StoreHandle;

/// The maximum number of session numbers that an acceptor accepts here.
const MAX_NUMBERS: usize = 8;

/// The time for which a standby carrier may be silent.
const SILENCE: Duration = Duration::from_secs(45);

/// Bytes that each session of a [`AttachedPair`] sends.
const PAYLOAD: usize = 700;

/// Processes the input of a peer before its attach was granted. Returns whether the attach was
/// granted.
pub fn acceptor(data: &[u8]) -> bool {
    let mut acceptor = Acceptor::new(MAX_NUMBERS);
    for chunk in chunks(data) {
        acceptor.handle_input(chunk);
        loop {
            match acceptor.poll() {
                Ok(Progress::More) => break,
                Ok(Progress::Hello(_)) => {}
                Ok(Progress::Standby(_)) => acceptor.let_stand_by(Time::ZERO, SILENCE),
                Ok(Progress::Complete) => return grant(acceptor),
                Ok(Progress::Join) => return join(acceptor),
                Err(_) => return false,
            }
        }
        // The output for a standby client does not grow with its input.
        let due = std::iter::from_fn(|| acceptor.poll_transmit()).count();
        assert!(due <= 2, "{due} packets wait");
    }
    false
}

/// Asks to join a tunnel that is not attached, which fails.
fn join(acceptor: Acceptor) -> bool {
    let mut tunnel = Tunnel::new(Side::Server, small());
    acceptor.into_join().is_some_and(|request| tunnel.handle_join(request).is_ok())
}

fn grant(acceptor: Acceptor) -> bool {
    let mut tunnel = Tunnel::new(Side::Server, small());
    let Some(request) = acceptor.into_request() else { return false };
    let granted = tunnel.handle_attach(Time::ZERO, TunnelId([7; 16]), request);
    exercise(&mut tunnel);
    granted.is_ok()
}

/// Returns the bytes that each side sends on a standby carrier: the client with a heartbeat and an
/// attach at the end, the server with an echo.
#[must_use]
pub fn on_standby() -> (Vec<u8>, Vec<u8>) {
    let AttachedPair { mut client, .. } = AttachedPair::attached();
    let config = StandbyConfig::default();
    let standby = client.stand_by(Time::ZERO, config).expect("both have the feature");
    let mut acceptor = Acceptor::new(MAX_NUMBERS);
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let said = packets(std::iter::from_fn(|| client.poll_transmit(Time::ZERO, standby)));
        acceptor.handle_input(said.clone().into());
        if acceptor.poll().is_ok_and(|progress| progress != Progress::More) {
            acceptor.let_stand_by(Time::ZERO, SILENCE);
        }
        let answer = packets(std::iter::from_fn(|| acceptor.poll_transmit()));
        client.handle_input(Time::ZERO, standby, answer.clone().into()).expect("no violation");
        client.probe_standby(Time::ZERO, standby);
        from_client.extend(said);
        from_server.extend(answer);
    }
    client.attach_standby(Time::ZERO, standby).expect("it stands by");
    from_client.extend(transmit(&mut client));
    (from_client, from_server)
}

/// Processes what a server sends on a standby carrier, and on the attach that follows if the
/// carrier is ready. Returns whether all of it was allowed.
pub fn standby(data: &[u8]) -> bool {
    let AttachedPair { mut client, .. } = AttachedPair::attached();
    let Some(standby) = client.stand_by(Time::ZERO, StandbyConfig::default()) else {
        return false;
    };
    for (round, chunk) in (0..).zip(chunks(data)) {
        let now = Time::ZERO + Duration::from_secs(round);
        while client.poll_transmit(now, standby).is_some() {}
        if client.handle_input(now, standby, chunk).is_err() {
            assert!(!client.has_carrier(standby), "it is over");
            return false;
        }
        client.handle_timeout(now);
        client.probe_standby(now, standby);
        while client.poll_event().is_some() {}
    }
    let is_ready = client.is_standing_by(standby);
    assert_eq!(client.attach_standby(Time::ZERO, standby).is_ok(), is_ready);
    exercise(&mut client);
    is_ready
}

/// Processes what the peer of an attached tunnel sends. Returns whether all of it was allowed.
pub fn tunnel(side: Side, data: &[u8]) -> bool {
    let AttachedPair { client, server, .. } = AttachedPair::attached();
    let mut tunnel = if side == Side::Client { client } else { server };
    for chunk in chunks(data) {
        let is_allowed = hear(&mut tunnel, chunk);
        exercise(&mut tunnel);
        if !is_allowed {
            return false;
        }
    }
    true
}

/// Restores a tunnel from a store whose contents are damaged as `data` says. Returns whether
/// everything was restored nevertheless.
pub fn restore(data: &[u8]) -> bool {
    let mut pair = AttachedPair::attached();
    pair.exchange();
    let (side, data) = data.split_first().unwrap_or((&0, data));
    let (mut tunnel, side) = match side % 2 {
        0 => (pair.client, Side::Client),
        _ => (pair.server, Side::Server),
    };
    let mut store = StoreHandle::new(side);
    let mut kept = Kept::new(store.clone());
    let _ = kept.commit(&mut tunnel);
    let mut contents = store.contents();
    note_sockets(&mut contents, &tunnel);
    damage(&mut contents, data);
    store.replace(contents);
    let Some((mut kept, recovered)) = Kept::recover(store.clone()) else { return false };
    let is_whole = |sessions: &[RecoveredSession]| !sessions.iter().any(|it| it.is_damaged);
    let was_whole = is_whole(&recovered.sessions);
    let Ok(mut tunnel) = kept.restore(small(), &recovered) else { return false };
    assert_eq!(kept.find_stray(&tunnel), None);
    let again = Kept::recover(store.clone()).map(|(_, recovered)| recovered);
    let again = again.map(|again| again.sessions).unwrap_or_default();
    let damaged = again.iter().find(|session| session.is_damaged);
    assert!(damaged.is_none(), "what was restored and kept is damaged: {damaged:#?}");
    exercise(&mut tunnel);
    tunnel.attach(Time::ZERO, intent);
    exercise(&mut tunnel);
    was_whole
}

/// Records how many bytes were read from and written to local sockets, as a driver does.
fn note_sockets(contents: &mut Contents, tunnel: &Tunnel) {
    for DetachedSession { state, payload, surplus, .. } in tunnel.export().1 {
        let (session, offset) = (state.id, state.send.offset);
        let (consumed, written) = (state.send.end, state.receive.offset + surplus);
        contents.counts.insert(session, Counts { consumed, written, has_failed: false });
        contents.pieces.push(Piece { session, offset, payload: payload.concat().into() });
    }
}

/// An attached client and server, and the later data of each that the other one has not read.
#[derive(Debug)]
pub struct AttachedPair {
    /// The client's tunnel.
    pub client: Tunnel,
    /// The server's.
    pub server: Tunnel,
    /// The client's request.
    pub request: Vec<u8>,
    /// The data that the client sent after the attach.
    pub from_client: Vec<u8>,
    /// The data that the server sent after its answer.
    pub from_server: Vec<u8>,
}

impl AttachedPair {
    /// Creates both ends attached, each with open, ended and reset sessions.
    #[must_use]
    pub fn attached() -> Self {
        let mut client = Tunnel::new(Side::Client, small());
        let mut server = Tunnel::new(Side::Server, small());
        client.attach(Time::ZERO, intent);
        let request = transmit(&mut client);
        let mut acceptor = Acceptor::new(MAX_NUMBERS);
        acceptor.handle_input(request.clone().into());
        while acceptor.poll().is_ok_and(|progress| progress != Progress::Complete) {}
        let whole = acceptor.into_request().expect("a whole request");
        server.handle_attach(Time::ZERO, TunnelId([7; 16]), whole).expect("the first attach");
        let answer = transmit(&mut server);
        assert!(hear(&mut client, answer.into()), "a good answer");
        let from_client = begin_sessions(&mut client);
        let from_server = begin_sessions(&mut server);
        Self { client, server, request, from_client, from_server }
    }

    /// Lets both ends read the data of the other one.
    pub fn exchange(&mut self) {
        let Self { client, server, from_client, from_server, .. } = self;
        assert!(hear(server, from_client.clone().into()), "no violation");
        assert!(hear(client, from_server.clone().into()), "no violation");
    }
}

/// Opens three sessions and lets two of them end; returns the bytes that were sent.
fn begin_sessions(tunnel: &mut Tunnel) -> Vec<u8> {
    let mut sent = Vec::new();
    for index in 0..3 {
        let id = tunnel.open(Bytes::from_static(b"target")).expect("room for a session");
        tunnel.write(Time::ZERO, id, Bytes::from_static(&[9; PAYLOAD]));
        sent.extend(transmit(tunnel));
        match index {
            0 => {}
            1 => tunnel.finish(Time::ZERO, id),
            _ => tunnel.reset(Time::ZERO, id, Reset::new(Cause::Application)),
        }
        sent.extend(transmit(tunnel));
    }
    sent
}

fn small() -> Config {
    Config {
        tunnel_limit: 10 * RESERVE,
        session_limit: RESERVE,
        max_session_limit: 2 * RESERVE,
        ..Config::default()
    }
}

fn intent() -> Intent {
    Intent::New { enrol: Bytes::from_static(b"key"), instance: Instance::default() }
}

/// Passes input of its lead to a tunnel. Returns whether the tunnel has accepted it.
fn hear(tunnel: &mut Tunnel, bytes: Bytes) -> bool {
    tunnel.lead().is_none_or(|lead| tunnel.handle_input(Time::ZERO, lead, bytes).is_ok())
}

fn transmit(tunnel: &mut Tunnel) -> Vec<u8> {
    let Some(lead) = tunnel.lead() else { return Vec::new() };
    packets(std::iter::from_fn(|| tunnel.poll_transmit(Time::ZERO, lead)))
}

fn packets(all: impl Iterator<Item = Transmit>) -> Vec<u8> {
    all.flat_map(|packet| [&packet.header.encode()[..], &packet.payload].concat()).collect()
}

/// Splits the data; the first byte decides how.
fn chunks(data: &[u8]) -> impl Iterator<Item = Bytes> {
    let (size, rest) = data.split_first().unwrap_or((&1, &[]));
    rest.chunks(usize::from(*size).max(1) * 16).map(Bytes::copy_from_slice)
}

/// Acts as a driver would, and checks the sums of the tunnel.
fn exercise(tunnel: &mut Tunnel) {
    let now = Time::ZERO + Duration::from_secs(1);
    while tunnel.poll_event().is_some() {}
    for id in tunnel.session_ids().collect::<Vec<_>>() {
        tunnel.accept(now, id);
        if tunnel.capacity(id) >= 100 {
            tunnel.write(now, id, Bytes::from_static(&[5; 100]));
        }
        let (data, is_end, is_reset) = match tunnel.delivery(id) {
            Delivery::Nothing => (0, false, false),
            Delivery::Data(data) => (data.len().div_ceil(2), false, false),
            Delivery::End => (0, true, false),
            Delivery::Reset(_) => (0, false, true),
        };
        match (is_end, is_reset) {
            (true, _) => tunnel.delivered_ending(now, id),
            (_, true) => tunnel.delivered_ending(now, id),
            _ => tunnel.delivered(now, id, data),
        }
    }
    if let Some(lead) = tunnel.lead() {
        while tunnel.poll_transmit(now, lead).is_some() {}
    }
    tunnel.handle_timeout(now);
    assert!(tunnel.is_consistent());
    let most = small().tunnel_limit * 3 + READ_SIZE as u64 * 2;
    assert!(tunnel.held() <= most, "holds {} of {most}", tunnel.held());
}
