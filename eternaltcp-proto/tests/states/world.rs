//! A tunnel with one session, and the state of its peer.

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    Acceptor, Cause, Config, Delivery, Digest, Header, Kind, Progress, Reset, Seq, SessionId, Side,
    Time, Tunnel, Violation, cost,
};

use crate::common::OnLead as _;
use crate::common::TUNNEL;
use crate::common::wire::{self, packet};

/// The payload of each `data` packet: one fills the session's limit.
const CHUNK: &[u8] = b"0123456789";

/// The result of an event.
pub(super) type StateOutcome = Result<Applied, Violation>;

/// Whether an event can occur in a state.
#[derive(PartialEq, Debug)]
pub(super) enum Applied {
    Yes,
    /// The driver would break its contract, or there is nothing to do.
    No,
}

/// A tunnel of the server with one session, and the state of its peer.
pub(super) struct StateWorld {
    now: Time,
    epoch: u64,
    pub(super) tunnel: Tunnel,
    pub(super) id: SessionId,
    /// Numbered packets that came from the tunnel, in order of their numbers.
    pub(super) sent: Vec<(Kind, Bytes)>,
    /// Numbered packets that the last event brought.
    pub(super) fresh: Vec<Kind>,
    /// The number of them that the peer has acknowledged.
    pub(super) acked: usize,
    /// The number of the peer's next packet.
    next: u32,
    /// The last heartbeat that the peer has not answered.
    unanswered: Option<Seq>,
    /// The digest of the data that the peer sent.
    digest: Digest,
    /// Whether the peer has sent a reset.
    pub(super) is_reset_received: bool,
    /// Whether the local socket is gone.
    pub(super) is_socket_gone: bool,
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
            unanswered: None,
            digest: Digest::default(),
            is_reset_received: false,
            is_socket_gone: false,
        };
        world.attach(false);
        world
    }

    /// Creates a world in which the peer has opened the session, and the tunnel's side accepted it.
    pub(super) fn accepted() -> Self {
        let mut world = Self::offered();
        world.tunnel.accept(world.now, world.id);
        world.drain();
        assert_eq!(world.receive_ack(), Ok(Applied::Yes));
        world
    }

    /// Creates a world in which the peer has opened the session.
    pub(super) fn offered() -> Self {
        let mut world = Self::new(1);
        assert_eq!(world.receive(wire::OPEN, b"\0"), Ok(Applied::Yes));
        world
    }

    /// Creates a world in which the tunnel's side has opened the session, detached.
    pub(super) fn asked() -> Self {
        let mut world = Self::new(2);
        world.tunnel.detach();
        let id = world.tunnel.open(Bytes::from_static(b"\0"));
        assert_eq!(id, Ok(world.id));
        world
    }

    pub(super) fn exists(&self) -> bool {
        self.tunnel.session_ids().any(|id| id == self.id)
    }

    /// Takes all outputs.
    fn drain(&mut self) {
        while self.tunnel.poll_event().is_some() {}
        while let Some(transmit) = self.tunnel.lead_transmit(self.now) {
            let Header { kind, session, seq, .. } = transmit.header;
            if kind == Kind::Heartbeat {
                self.unanswered = Some(seq);
            }
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

    pub(super) fn receive_data(&mut self) -> StateOutcome {
        self.digest = self.digest.after(CHUNK);
        self.receive(wire::DATA, CHUNK)
    }

    pub(super) fn receive_end(&mut self) -> StateOutcome {
        self.receive(wire::END, &self.digest.get().to_le_bytes())
    }

    pub(super) fn receive_wrong_end(&mut self) -> StateOutcome {
        self.receive(wire::END, b"anything")
    }

    pub(super) fn receive_reset(&mut self) -> StateOutcome {
        let outcome = self.receive(wire::RESET, &wire::reset(0));
        self.is_reset_received |= outcome == Ok(Applied::Yes);
        outcome
    }

    pub(super) fn receive_opened(&mut self) -> StateOutcome {
        self.receive(wire::OPENED, b"")
    }

    pub(super) fn receive_ack(&mut self) -> StateOutcome {
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
    pub(super) fn reattach(&mut self) -> StateOutcome {
        self.attach(true);
        Ok(Applied::Yes)
    }

    /// Attaches the next carrier, whose peer does not list the session.
    pub(super) fn reattach_unlisted(&mut self) -> StateOutcome {
        self.attach(false);
        Ok(Applied::Yes)
    }

    fn done(&mut self) -> StateOutcome {
        self.drain();
        Ok(Applied::Yes)
    }

    // The local socket.

    pub(super) fn accept(&mut self) -> StateOutcome {
        if self.tunnel.offered_target(self.id).is_none() {
            return Ok(Applied::No);
        }
        self.tunnel.accept(self.now, self.id);
        self.done()
    }

    pub(super) fn write(&mut self) -> StateOutcome {
        if self.tunnel.capacity(self.id) == 0 {
            return Ok(Applied::No);
        }
        self.tunnel.write(self.now, self.id, Bytes::from_static(CHUNK));
        self.done()
    }

    pub(super) fn finish(&mut self) -> StateOutcome {
        if self.tunnel.capacity(self.id) == 0 {
            return Ok(Applied::No);
        }
        self.tunnel.finish(self.now, self.id);
        self.done()
    }

    pub(super) fn reset(&mut self) -> StateOutcome {
        self.is_socket_gone = true;
        self.tunnel.reset(self.now, self.id, Reset::new(Cause::Application));
        self.done()
    }

    pub(super) fn take(&mut self) -> StateOutcome {
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

    pub(super) fn wait(&mut self) -> StateOutcome {
        // The peer is heard all the time, and answers: only its application stalls.
        for _ in 0..5 {
            self.now = self.now + Duration::from_secs(1);
            self.tunnel.lead_heard(self.now);
        }
        self.tunnel.handle_timeout(self.now);
        self.drain();
        if let Some(beat) = self.unanswered.take() {
            let echo = packet(wire::ECHO, 0, 0, beat.get(), b"");
            self.tunnel.lead_input(self.now, echo)?;
            self.tunnel.handle_timeout(self.now);
        }
        self.done()
    }
}
