//! The states of a session, each with every event. They are found by trying all events in all
//! states that are reached, and kept as tables in `snapshots/`.
//!
//! A state is what is visible from outside: the harness is one tunnel of the server, a peer made by
//! the test, and probes that are discarded after use.

mod common;

use common::OnLead as _;

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::wire::{self, packet};
use common::{TUNNEL, snapshot};
use eternaltcp_proto::{
    Acceptor, Cause, Config, Delivery, Digest, Header, Kind, Progress, Reset, SessionId, Side,
    Time, Tunnel, Violation, cost,
};

/// The payload of each `data` packet: one fills the session's limit.
const CHUNK: &[u8] = b"0123456789";

/// The result of an event.
type StateOutcome = Result<Applied, Violation>;

/// Whether an event can occur in a state.
#[derive(PartialEq, Debug)]
enum Applied {
    Yes,
    /// The driver would break its contract, or there is nothing to do.
    No,
}

/// A tunnel of the server with one session, and the state of its peer.
struct StateWorld {
    now: Time,
    epoch: u64,
    tunnel: Tunnel,
    id: SessionId,
    /// Numbered packets that came from the tunnel, in order of their numbers.
    sent: Vec<(Kind, Bytes)>,
    /// Numbered packets that the last event brought.
    fresh: Vec<Kind>,
    /// How many of them the peer has acknowledged.
    acked: usize,
    /// The number of the peer's next packet.
    next: u32,
    /// The digest of the data that the peer sent.
    digest: Digest,
    /// Whether the peer has sent a reset.
    is_reset_received: bool,
    /// Whether the local socket is gone.
    is_socket_gone: bool,
}

impl StateWorld {
    fn new(id: u32) -> Self {
        let mut world = Self {
            now: Time::new(Duration::from_secs(1000)),
            epoch: 0,
            tunnel: Tunnel::new(Side::Server, Config::default()),
            id: SessionId::new(id).unwrap_or_else(|| panic!("0 is no session")),
            sent: Vec::new(),
            fresh: Vec::new(),
            acked: 0,
            next: 0,
            digest: Digest::default(),
            is_reset_received: false,
            is_socket_gone: false,
        };
        world.attach(false);
        world
    }

    /// Creates a world in which the peer has opened the session, and the tunnel's side accepted it.
    fn accepted() -> Self {
        let mut world = Self::offered();
        world.tunnel.accept(world.now, world.id);
        world.drain();
        assert_eq!(world.receive_ack(), Ok(Applied::Yes));
        world
    }

    /// Creates a world in which the peer has opened the session.
    fn offered() -> Self {
        let mut world = Self::new(1);
        assert_eq!(world.receive(wire::OPEN, b"\0"), Ok(Applied::Yes));
        world
    }

    /// Creates a world in which the tunnel's side has opened the session, detached.
    fn asked() -> Self {
        let mut world = Self::new(2);
        world.tunnel.detach();
        let id = world.tunnel.open(Bytes::from_static(b"\0"));
        assert_eq!(id, Ok(world.id));
        world
    }

    fn exists(&self) -> bool {
        self.tunnel.session_ids().any(|id| id == self.id)
    }

    /// Takes all outputs.
    fn drain(&mut self) {
        while self.tunnel.poll_event().is_some() {}
        while let Some(transmit) = self.tunnel.lead_transmit(self.now) {
            let Header { kind, session, seq, .. } = transmit.header;
            if kind.is_numbered() && session == self.id.get() {
                let index = seq.get() as usize;
                self.fresh.push(kind);
                self.sent.truncate(index);
                self.sent.push((kind, transmit.payload));
            }
        }
    }

    fn feed(&mut self, bytes: Bytes) -> StateOutcome {
        if !self.tunnel.is_attached() {
            return Ok(Applied::No);
        }
        self.tunnel.lead_input(self.now, bytes)?;
        self.drain();
        Ok(Applied::Yes)
    }

    /// Gives the tunnel the peer's next numbered packet.
    fn receive(&mut self, kind: u32, payload: &[u8]) -> StateOutcome {
        let bytes = packet(kind, self.id.get(), self.next, self.acked as u32, payload);
        self.next += 1;
        self.feed(bytes)
    }

    fn receive_data(&mut self) -> StateOutcome {
        self.digest = self.digest.after(CHUNK);
        self.receive(wire::DATA, CHUNK)
    }

    fn receive_end(&mut self) -> StateOutcome {
        self.receive(wire::END, &self.digest.get().to_le_bytes())
    }

    fn receive_wrong_end(&mut self) -> StateOutcome {
        self.receive(wire::END, b"anything")
    }

    fn receive_reset(&mut self) -> StateOutcome {
        let outcome = self.receive(wire::RESET, &wire::reset(0));
        self.is_reset_received |= outcome == Ok(Applied::Yes);
        outcome
    }

    fn receive_opened(&mut self) -> StateOutcome {
        self.receive(wire::OPENED, b"")
    }

    fn receive_ack(&mut self) -> StateOutcome {
        if self.acked == self.sent.len() {
            return Ok(Applied::No);
        }
        self.acked = self.sent.len();
        self.feed(packet(wire::ACK, self.id.get(), 0, self.acked as u32, b""))
    }

    /// Attaches a new carrier whose peer received only what it has acknowledged.
    fn attach(&mut self, is_listed: bool) {
        self.tunnel.detach();
        self.epoch += 1;
        let mut acceptor = Acceptor::new(1);
        let mut hello = wire::WireHello::resume(self.epoch, TUNNEL.0);
        hello.session_limit = cost(CHUNK.len());
        let mut request = vec![hello.packet()];
        if is_listed {
            let acked = self.acked as u32;
            let delivered = self.sent[..self.acked].iter().filter(|(kind, _)| *kind == Kind::Data);
            let digest = delivered.fold(Digest::default(), |digest, (_, data)| digest.after(data));
            let limit = hello.session_limit;
            request.push(wire::numbers(self.id.get(), acked, acked, digest.get(), limit));
        }
        request.push(wire::numbers_end(u32::from(is_listed)));
        acceptor.handle_input(request.concat().into());
        while !matches!(acceptor.poll(), Ok(Progress::Complete)) {}
        let request = acceptor.into_request().expect("it is complete");
        assert!(self.tunnel.handle_attach(self.now, TUNNEL, request).is_ok());
        self.drain();
    }

    /// Attaches the next carrier, for a session that the peer knows.
    fn reattach(&mut self) -> StateOutcome {
        self.attach(true);
        Ok(Applied::Yes)
    }

    /// Attaches the next carrier, whose peer does not list the session.
    fn reattach_unlisted(&mut self) -> StateOutcome {
        self.attach(false);
        Ok(Applied::Yes)
    }

    fn done(&mut self) -> StateOutcome {
        self.drain();
        Ok(Applied::Yes)
    }

    // The local socket.

    fn accept(&mut self) -> StateOutcome {
        if self.tunnel.offered_target(self.id).is_none() {
            return Ok(Applied::No);
        }
        self.tunnel.accept(self.now, self.id);
        self.done()
    }

    fn write(&mut self) -> StateOutcome {
        if self.tunnel.capacity(self.id) == 0 {
            return Ok(Applied::No);
        }
        self.tunnel.write(self.now, self.id, Bytes::from_static(CHUNK));
        self.done()
    }

    fn finish(&mut self) -> StateOutcome {
        if self.tunnel.capacity(self.id) == 0 {
            return Ok(Applied::No);
        }
        self.tunnel.finish(self.now, self.id);
        self.done()
    }

    fn reset(&mut self) -> StateOutcome {
        self.is_socket_gone = true;
        self.tunnel.reset(self.now, self.id, Reset::new(Cause::Application));
        self.done()
    }

    fn take(&mut self) -> StateOutcome {
        let waiting = self.tunnel.deliverable(self.id).map(<[u8]>::len).sum();
        match self.tunnel.delivery(self.id) {
            Delivery::Nothing => return Ok(Applied::No),
            Delivery::Data(_) => self.tunnel.delivered(self.now, self.id, waiting),
            Delivery::End => self.tunnel.delivered_ending(self.now, self.id),
            Delivery::Reset(_) => {
                self.is_socket_gone = true;
                self.tunnel.delivered_ending(self.now, self.id);
            }
        }
        self.done()
    }

    fn wait(&mut self) -> StateOutcome {
        // The peer is heard all the time: only its application stalls.
        for _ in 0..5 {
            self.now = self.now + Duration::from_secs(1);
            self.tunnel.lead_heard(self.now);
        }
        self.tunnel.handle_timeout(self.now);
        self.done()
    }
}

/// An event and its name.
type StateEvent = (&'static str, fn(&mut StateWorld) -> StateOutcome);

/// One table: its first state, the possible events, and how a state is shown.
struct Machine {
    title: &'static str,
    starts: &'static [fn() -> StateWorld],
    events: &'static [StateEvent],
    state: fn(StateWorld) -> String,
}

/// How a state is reached: the first state, and the events after it.
#[derive(Clone)]
struct StateRoute {
    start: fn() -> StateWorld,
    events: Vec<fn(&mut StateWorld) -> StateOutcome>,
}

impl StateRoute {
    fn world(&self) -> StateWorld {
        let mut world = (self.start)();
        for event in &self.events {
            assert!(event(&mut world).is_ok(), "a route has no violation");
        }
        world.fresh.clear();
        world
    }

    fn then(&self, event: fn(&mut StateWorld) -> StateOutcome) -> Self {
        let mut route = self.clone();
        route.events.push(event);
        route
    }
}

impl Machine {
    /// Tries every event in every state, and draws the results.
    fn explore(&self) -> String {
        let mut seen: Vec<String> = Vec::new();
        let mut waiting: VecDeque<(String, StateRoute)> = VecDeque::new();
        for start in self.starts {
            let route = StateRoute { start: *start, events: Vec::new() };
            self.meet(&mut seen, &mut waiting, route);
        }
        let mut table = self.heading();
        while let Some((state, route)) = waiting.pop_front() {
            write!(table, "| **{state}** |").unwrap_or_default();
            for (_, event) in self.events {
                let cell = self.cell(&mut seen, &mut waiting, &state, &route, *event);
                write!(table, " {cell} |").unwrap_or_default();
            }
            table.push('\n');
        }
        table
    }

    fn heading(&self) -> String {
        let names: Vec<&str> = self.events.iter().map(|(name, _)| *name).collect();
        format!("# {}\n\n{LEGEND}\n\n", self.title)
            + &format!("| state | {} |\n", names.join(" | "))
            + &format!("|---|{}\n", "---|".repeat(names.len()))
    }

    fn meet(
        &self,
        seen: &mut Vec<String>,
        waiting: &mut VecDeque<(String, StateRoute)>,
        route: StateRoute,
    ) -> String {
        let state = (self.state)(route.world());
        if !seen.contains(&state) {
            seen.push(state.clone());
            if state != GONE && state != OVER {
                waiting.push_back((state.clone(), route));
            }
        }
        state
    }

    fn cell(
        &self,
        seen: &mut Vec<String>,
        waiting: &mut VecDeque<(String, StateRoute)>,
        state: &str,
        route: &StateRoute,
        event: fn(&mut StateWorld) -> StateOutcome,
    ) -> String {
        let mut world = route.world();
        match event(&mut world) {
            Err(violation) => format!("✗ {}", violation_name(&violation)),
            Ok(Applied::No) => "–".into(),
            Ok(Applied::Yes) => {
                let sends: Vec<String> =
                    world.fresh.iter().map(|kind| format!("`{kind:?}`").to_lowercase()).collect();
                let next = self.meet(seen, waiting, route.then(event));
                let next = if next == state { "·".into() } else { next };
                if sends.is_empty() { next } else { format!("{next}; {}", sends.join(" ")) }
            }
        }
    }
}

const GONE: &str = "gone";

/// The end of the opening's table: the other tables continue from here.
const OVER: &str = "over";

const LEGEND: &str = "What each event does in each state: the state after it, then the numbered packets sent.\n\
`·` stays; `–` cannot occur; `✗` ends the carrier; *gone* is without a record.";

fn violation_name(violation: &Violation) -> String {
    let text = format!("{violation:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

// -- How a state is shown.

/// Returns the packets that the sending direction has sent, and those that a peer which
/// acknowledges everything will still receive.
fn send_state(mut world: StateWorld) -> String {
    if !world.exists() {
        return GONE.into();
    }
    let last = world.sent.last().map(|(kind, _)| *kind);
    let is_acked = world.acked == world.sent.len();
    let suffix = if is_acked { ", acknowledged" } else { "" };
    world.fresh.clear();
    while world.receive_ack() == Ok(Applied::Yes) {}
    let waits = world.fresh.contains(&Kind::Data);
    let ending = world.fresh.iter().find(|kind| matches!(kind, Kind::End | Kind::Reset));
    match (last, ending) {
        (Some(Kind::Reset), _) => format!("reset sent{suffix}"),
        (_, Some(Kind::Reset)) => "reset waits behind data".into(),
        (Some(Kind::End), _) => format!("end sent{suffix}"),
        (_, Some(Kind::End)) => "end waits behind data".into(),
        _ if waits => "open, data wait for room".into(),
        _ if is_acked => "open".into(),
        _ => "open, data sent".into(),
    }
}

/// Returns the data that the local socket is given, and the units that the peer may still send.
fn receive_state(mut world: StateWorld) -> String {
    if !world.exists() {
        return GONE.into();
    }
    let (tunnel, id) = (&world.tunnel, world.id);
    let is_reset_pending = tunnel.pending_reset(id).is_some();
    let delivery = match tunnel.delivery(id) {
        Delivery::Data(_) if is_reset_pending => "reset waits behind data",
        Delivery::Reset(reset) if reset.cause == Cause::Corrupt => "own reset waits",
        Delivery::Reset(_) => "reset waits",
        Delivery::End => "end waits",
        Delivery::Data(_) => "data wait",
        Delivery::Nothing => "",
    };
    let takes_data = world.receive_data().is_ok();
    let state = match (delivery, takes_data) {
        ("data wait", false) => "end waits behind data",
        ("", true) if world.is_socket_gone => "dropping",
        ("", true) => "open",
        ("", false) if world.is_reset_received => "reset",
        ("", false) if world.is_socket_gone => "ended, dropping",
        ("", false) => "ended",
        (delivery, _) => delivery,
    };
    state.into()
}

/// Returns the progress of the opening.
fn opening_state(world: StateWorld) -> String {
    let (tunnel, id) = (&world.tunnel, world.id);
    let is_over = tunnel.capacity(id) == 0 && tunnel.offered_target(id).is_none();
    if !world.exists() {
        GONE.into()
    } else if is_over {
        OVER.into()
    } else if tunnel.offered_target(id).is_some() {
        "offered".into()
    } else if tunnel.is_established(id) {
        "established".into()
    } else if !tunnel.is_transmitted(id) {
        "asked, not sent".into()
    } else if world.acked == 0 {
        "asked".into()
    } else {
        "asked, acknowledged".into()
    }
}

// -- The tables.

fn check(name: &str, machine: &Machine) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    snapshot(&folder.join(name), &machine.explore());
}

#[test]
fn the_sending_direction_does_what_its_table_says() {
    check(
        "send.md",
        &Machine {
            title: "The sending direction of a session",
            starts: &[StateWorld::accepted],
            events: &[
                ("socket gives data", StateWorld::write),
                ("socket ends", StateWorld::finish),
                ("socket is reset", StateWorld::reset),
                ("all is acknowledged", StateWorld::receive_ack),
                ("`reset` comes", StateWorld::receive_reset),
                ("5 s pass", StateWorld::wait),
                ("attach, nothing received", StateWorld::reattach),
            ],
            state: send_state,
        },
    );
}

#[test]
fn the_receiving_direction_does_what_its_table_says() {
    check(
        "receive.md",
        &Machine {
            title: "The receiving direction of a session",
            starts: &[StateWorld::accepted],
            events: &[
                ("`data` comes", StateWorld::receive_data),
                ("`end` comes", StateWorld::receive_end),
                ("`end` with another digest comes", StateWorld::receive_wrong_end),
                ("`reset` comes", StateWorld::receive_reset),
                ("`opened` comes", StateWorld::receive_opened),
                ("socket takes what is next", StateWorld::take),
                ("socket is reset", StateWorld::reset),
                ("attach", StateWorld::reattach),
            ],
            state: receive_state,
        },
    );
}

#[test]
fn the_opening_does_what_its_table_says() {
    check(
        "opening.md",
        &Machine {
            title: "The opening of a session",
            starts: &[StateWorld::asked, StateWorld::offered],
            events: &[
                ("attach, not listed", StateWorld::reattach_unlisted),
                ("`open` is acknowledged", StateWorld::receive_ack),
                ("`opened` comes", StateWorld::receive_opened),
                ("`data` comes", StateWorld::receive_data),
                ("`reset` comes", StateWorld::receive_reset),
                ("target is connected", StateWorld::accept),
                ("socket gives data", StateWorld::write),
                ("socket is reset", StateWorld::reset),
            ],
            state: opening_state,
        },
    );
}
