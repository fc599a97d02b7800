//! Two tunnels, the carrier between them and the local sockets at their ends, on a virtual clock.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used)]

pub(crate) mod beside;
pub(crate) mod files;
mod lead;
mod peer;
pub(crate) mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    Acceptor, AttachRequest, Cause, Config, Instance, Intent, Kind, Progress, Reset, SessionId,
    Side, Time, TimeoutReason, Transmit, Tunnel, TunnelId, encode_refusal,
};

pub(crate) use lead::OnLead;
pub(crate) use peer::TestPeer;

/// The tunnel's id in every test.
pub(crate) const TUNNEL: TunnelId = TunnelId(*b"a tunnel's name!");

/// The time for which a packet travels.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(10);

/// Returns the request of a client that has no tunnel yet.
pub(crate) fn new_tunnel() -> Intent {
    let instance = Instance {
        machine: "machine".into(),
        boot: "boot".into(),
        user: "user".into(),
        name: "name".into(),
    };
    Intent::New { enrol: Bytes::from_static(b"enrolled key"), instance }
}

/// Returns some bytes that differ along their length.
pub(crate) fn pattern(length: usize) -> Bytes {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// A client's tunnel, a server's, and the carrier.
pub(crate) struct TestPair {
    pub(crate) now: Time,
    pub(crate) client: TestPeer,
    pub(crate) server: TestPeer,
    /// Every packet that was put on a carrier, in order, with its sender.
    pub(crate) log: Vec<(Side, Transmit)>,
    /// Changes what is put on the carrier.
    pub(crate) tamper: Option<fn(Side, &mut Transmit)>,
    /// The time for which each packet travels.
    pub(crate) one_way: Duration,
    acceptor: Option<Acceptor>,
    to_server: TestLink,
    to_client: TestLink,
}

/// One direction of a carrier.
#[derive(Default)]
struct TestLink {
    flying: VecDeque<(Time, Bytes)>,
    is_held: bool,
    is_lossy: bool,
}

impl TestPair {
    pub(crate) fn new() -> Self {
        Self::with(Config::default(), Config::default())
    }

    pub(crate) fn with(client: Config, server: Config) -> Self {
        Self {
            now: Time::new(Duration::from_secs(1000)),
            client: TestPeer::new(Side::Client, client),
            server: TestPeer::new(Side::Server, server),
            log: Vec::new(),
            tamper: None,
            one_way: ONE_WAY,
            acceptor: None,
            to_server: TestLink::default(),
            to_client: TestLink::default(),
        }
    }

    /// Creates a pair that is attached and idle.
    pub(crate) fn attached() -> Self {
        let mut pair = Self::new();
        pair.attach();
        pair
    }

    pub(crate) fn peer(&mut self, side: Side) -> &mut TestPeer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn link_from(&mut self, side: Side) -> &mut TestLink {
        match side {
            Side::Client => &mut self.to_server,
            Side::Server => &mut self.to_client,
        }
    }

    // -- The carrier.

    /// Makes a new carrier, asks for it to be bound, and drives.
    pub(crate) fn attach(&mut self) {
        self.begin_attach();
        self.drive();
    }

    /// Makes a new carrier and asks for it to be bound. Nothing is delivered yet.
    pub(crate) fn begin_attach(&mut self) {
        (self.to_server, self.to_client) = (TestLink::default(), TestLink::default());
        self.acceptor = Some(Acceptor::new(1000));
        self.client.tunnel.attach(self.now, new_tunnel);
    }

    /// Ends the carrier with everything in flight, and tells both sides.
    pub(crate) fn cut(&mut self) {
        (self.to_server, self.to_client) = (TestLink::default(), TestLink::default());
        self.acceptor = None;
        self.client.tunnel.detach();
        self.server.tunnel.detach();
    }

    /// Loses what is in flight on the lead. The links are for another carrier now.
    pub(crate) fn forget_flying(&mut self) {
        (self.to_server, self.to_client) = (TestLink::default(), TestLink::default());
    }

    /// Holds back what this side sends, until [`Self::release`].
    pub(crate) fn hold(&mut self, from: Side) {
        self.link_from(from).is_held = true;
    }

    /// Delivers what was held back, at once.
    pub(crate) fn release(&mut self, from: Side) {
        let at = self.now + self.one_way;
        let link = self.link_from(from);
        link.is_held = false;
        link.flying.iter_mut().for_each(|(time, _)| *time = at);
    }

    /// Loses what this side sends from now on, unnoticed.
    pub(crate) fn lose(&mut self, from: Side) {
        self.link_from(from).is_lossy = true;
    }

    // -- Time.

    /// Runs until nothing is in flight and no acknowledgement waits.
    pub(crate) fn drive(&mut self) {
        self.flush();
        while let Some(next) = self.next_arrival().into_iter().chain(self.ack_timer()).min() {
            self.advance(next);
        }
    }

    /// Lets time pass, with everything that happens in it.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.flush();
        loop {
            let timers = [&self.client, &self.server].map(|peer| peer.tunnel.poll_timeout());
            let timers = timers.into_iter().flatten().map(|(at, _)| at);
            match self.next_arrival().into_iter().chain(timers).min() {
                Some(next) if next <= end => self.advance(next.max(self.now)),
                _ => break,
            }
        }
        self.now = end;
    }

    /// Stops the program: time passes and nothing happens.
    pub(crate) fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    fn next_arrival(&self) -> Option<Time> {
        let links = [&self.to_server, &self.to_client].into_iter().filter(|link| !link.is_held);
        links.filter_map(|link| link.flying.front()).map(|(at, _)| *at).min()
    }

    fn ack_timer(&self) -> Option<Time> {
        let timers = [&self.client, &self.server].map(|peer| peer.tunnel.poll_timeout());
        let acks =
            timers.into_iter().flatten().filter(|(_, why)| *why == TimeoutReason::DelayedAcks);
        acks.map(|(at, _)| at).min()
    }

    fn advance(&mut self, to: Time) {
        self.now = to.max(self.now);
        for side in [Side::Client, Side::Server] {
            for packet in self.arrived(side) {
                self.give(side, packet);
            }
        }
        for side in [Side::Client, Side::Server] {
            let now = self.now;
            let tunnel = &mut self.peer(side).tunnel;
            if tunnel.poll_timeout().is_some_and(|(at, _)| at <= now) {
                tunnel.handle_timeout(now);
            }
        }
        self.flush();
    }

    /// Returns the packets that have arrived at `side`.
    fn arrived(&mut self, side: Side) -> Vec<Bytes> {
        let now = self.now;
        let from = if side == Side::Client { Side::Server } else { Side::Client };
        let link = self.link_from(from);
        if link.is_held {
            return Vec::new();
        }
        let count = link.flying.iter().take_while(|(at, _)| *at <= now).count();
        link.flying.drain(..count).map(|(_, packet)| packet).collect()
    }

    /// Gives a packet to a side, as its driver would.
    fn give(&mut self, side: Side, packet: Bytes) {
        let now = self.now;
        if side == Side::Server
            && let Some(acceptor) = &mut self.acceptor
        {
            acceptor.handle_input(packet);
            self.accept_carrier();
            return;
        }
        let result = self.peer(side).tunnel.lead_input(now, packet);
        assert_eq!(result, Ok(()), "to the {side:?}");
    }

    fn accept_carrier(&mut self) {
        let Some(mut acceptor) = self.acceptor.take() else { return };
        loop {
            match acceptor.poll().unwrap() {
                Progress::Hello(_) => {}
                Progress::Standby(_) => panic!("a carrier of a pair attaches at once"),
                Progress::More => {
                    self.acceptor = Some(acceptor);
                    return;
                }
                Progress::Complete => break,
                Progress::Join => panic!("nobody joins here"),
            }
        }
        let request = acceptor.into_request().unwrap();
        if let Err(error) = self.server.tunnel.handle_attach(self.now, TUNNEL, request) {
            let refusal = Bytes::from(encode_refusal(&error.refusal()));
            let at = self.now + self.one_way;
            self.to_client.flying.push_back((at, refusal));
        }
    }

    /// Handles what the tunnels ask for, and puts their packets on the carrier.
    pub(crate) fn flush(&mut self) {
        for side in [Side::Client, Side::Server] {
            let (now, tamper, arrival) = (self.now, self.tamper, self.now + self.one_way);
            loop {
                self.peer(side).handle_events(now);
                let Some(mut transmit) = self.peer(side).tunnel.lead_transmit(now) else { break };
                if let Some(tamper) = tamper {
                    tamper(side, &mut transmit);
                }
                let link = self.link_from(side);
                if !link.is_lossy {
                    link.flying.push_back((arrival, wire::encode(&transmit)));
                }
                self.log.push((side, transmit));
            }
        }
    }

    // -- The applications.

    /// Opens a session to the default target.
    pub(crate) fn open(&mut self, side: Side) -> SessionId {
        self.peer(side).tunnel.open(Bytes::from_static(b"\0")).unwrap()
    }

    /// Opens a session and waits until it is established.
    pub(crate) fn session(&mut self) -> SessionId {
        let id = self.open(Side::Client);
        self.drive();
        assert!(self.client.tunnel.is_established(id));
        id
    }

    pub(crate) fn write(&mut self, side: Side, id: SessionId, bytes: &[u8]) {
        let now = self.now;
        let peer = self.peer(side);
        peer.socket(id).outbox.extend_from_slice(bytes);
        peer.serve(now, id);
    }

    pub(crate) fn finish(&mut self, side: Side, id: SessionId) {
        let now = self.now;
        let peer = self.peer(side);
        peer.socket(id).is_finishing = true;
        peer.serve(now, id);
    }

    pub(crate) fn reset(&mut self, side: Side, id: SessionId) {
        let now = self.now;
        let peer = self.peer(side);
        peer.tunnel.reset(now, id, Reset::new(Cause::Application));
    }

    /// Lets the socket take this many more bytes.
    pub(crate) fn take(&mut self, side: Side, id: SessionId, count: usize) {
        let now = self.now;
        let peer = self.peer(side);
        let socket = peer.socket(id);
        socket.takes = socket.takes.saturating_add(count);
        peer.serve(now, id);
    }

    /// Writes, drives, and checks that the other side got exactly that.
    pub(crate) fn check_echo(&mut self, id: SessionId) {
        for (from, to) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let before = self.peer(to).socket(id).got.len();
            self.write(from, id, b"are you there?");
            self.drive();
            assert_eq!(&self.peer(to).socket(id).got[before..], b"are you there?");
        }
    }

    /// Returns how many records of sessions each side has: the client first.
    pub(crate) fn records(&self) -> (usize, usize) {
        (self.client.tunnel.session_count(), self.server.tunnel.session_count())
    }

    /// Checks that the tunnel works: a new session passes bytes both ways.
    pub(crate) fn check_usable(&mut self) {
        let id = self.session();
        self.check_echo(id);
        self.end_both(id);
    }

    /// Ends a session in order and checks that no record of it is left.
    pub(crate) fn end_both(&mut self, id: SessionId) {
        self.finish(Side::Client, id);
        self.finish(Side::Server, id);
        self.drive();
        for side in [Side::Client, Side::Server] {
            let peer = self.peer(side);
            assert!(peer.socket(id).is_ended, "{side:?}");
            assert!(!peer.tunnel.session_ids().any(|known| known == id), "{side:?} has a record");
        }
    }

    /// Returns the kinds and numbers of a session's packets that were sent since the log was at
    /// `from`.
    pub(crate) fn sent(&self, from: usize, side: Side, id: SessionId) -> Vec<(Kind, u32)> {
        let of_session = |(sender, transmit): &&(Side, Transmit)| {
            *sender == side
                && transmit.header.session == id.get()
                && transmit.header.kind.is_numbered()
        };
        let packets = self.log[from..].iter().filter(of_session);
        packets.map(|(_, t)| (t.header.kind, t.header.seq.get())).collect()
    }
}

/// Returns everything that a tunnel wants to send now.
pub(crate) fn transmits(tunnel: &mut Tunnel, now: Time) -> Vec<Transmit> {
    std::iter::from_fn(|| tunnel.lead_transmit(now)).collect()
}

/// Returns a client's request, as the server's driver collects it.
pub(crate) fn request(client: &mut Tunnel, now: Time) -> AttachRequest {
    client.attach(now, new_tunnel);
    let mut acceptor = Acceptor::new(1000);
    for transmit in transmits(client, now) {
        acceptor.handle_input(wire::encode(&transmit));
        while let Progress::Hello(_) = acceptor.poll().unwrap() {}
    }
    acceptor.into_request().unwrap()
}
