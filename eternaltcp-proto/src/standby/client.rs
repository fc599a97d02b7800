//! The client's part of a standby carrier.

use std::time::Duration;

use bytes::Bytes;

use super::message::{StandbyAnswer, StandbyRequest};
use super::question::Question;
use crate::attach::{OLDEST_VERSION, VERSION};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::TunnelId;
use crate::liveness::Liveness;
use crate::packet::{Header, Kind};
use crate::reason::Refusal;
use crate::seq::Seq;
use crate::suspicion::Suspicion;
use crate::time::Time;
use crate::transmit::Transmit;

/// Heartbeats are never closer together than this, whatever the server says.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The settings of a standby carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandbyConfig {
    /// How often a heartbeat is sent. It is also sent at least three times in the silence that the
    /// server allows, but not more than once a second.
    pub heartbeat: Duration,
    /// If an answer takes longer than this, or than the time between two heartbeats, the carrier is
    /// dead.
    pub patience: Duration,
}

impl Default for StandbyConfig {
    /// Creates the default settings: often enough to keep the entry of a NAT, and to notice a death
    /// before the carrier is needed.
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), patience: Duration::from_secs(3) }
    }
}

/// An event for the driver of a standby carrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StandbyEvent {
    /// The carrier stands by: [`crate::Tunnel::attach_standby`] may take it.
    Ready,
    /// The server refused it: close it.
    Refused(Refusal),
    /// An answer is late by more than a few round trips: do not use the carrier now.
    Suspected(Suspicion),
    /// The carrier that was doubted has answered.
    Relieved,
    /// An answer did not come in time: close it.
    Dead,
}

/// A carrier that stands by for a tunnel, as a state machine without I/O.
/// [`crate::Tunnel::stand_by`] makes it. After each input, drain [`Self::poll_event`] and
/// [`Self::poll_transmit`], and return at the time that [`Self::poll_timeout`] gives. It is of no
/// use after [`StandbyEvent::Refused`] and [`StandbyEvent::Dead`].
#[derive(Debug)]
pub struct Standby {
    tunnel: TunnelId,
    config: StandbyConfig,
    decoder: Decoder,
    state: StandbyState,
    /// The last event that was not polled. A later one replaces it.
    event: Option<StandbyEvent>,
    /// Whether the driver was told of a doubt.
    is_suspected: bool,
    /// How long the answer to the request took.
    first_round_trip: Option<Duration>,
}

#[derive(Debug)]
enum StandbyState {
    /// The server was asked to let it stand by.
    Asking(Question),
    /// The server agreed.
    Ready(Box<Liveness>),
    /// The carrier is of no use.
    Over,
}

impl Standby {
    pub(crate) fn new(now: Time, tunnel: TunnelId, config: StandbyConfig) -> Self {
        Self {
            tunnel,
            config,
            decoder: Decoder::default(),
            state: StandbyState::Asking(Question::new(now, config.patience)),
            event: None,
            is_suspected: false,
            first_round_trip: None,
        }
    }

    /// Returns the tunnel for which it stands by.
    #[must_use]
    pub fn tunnel(&self) -> TunnelId {
        self.tunnel
    }

    /// Returns whether the server let it stand by, and it is not known to be dead.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, StandbyState::Ready(_))
    }

    /// Returns whether and why the carrier is doubted now: a heartbeat was not answered within a
    /// few round trips.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        self.liveness()?.suspicion()
    }

    /// Returns the smoothed round trip.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.liveness().and_then(Liveness::round_trip).or(self.first_round_trip)
    }

    fn liveness(&self) -> Option<&Liveness> {
        match &self.state {
            StandbyState::Ready(liveness) => Some(liveness),
            StandbyState::Asking(_) | StandbyState::Over => None,
        }
    }

    /// Handles a read from the carrier's socket, whether or not it has completed any plaintext.
    pub fn handle_heard(&mut self, now: Time) {
        if let StandbyState::Ready(liveness) = &mut self.state {
            liveness.handle_heard(now);
        }
    }

    /// Handles plaintext of the carrier, in order.
    ///
    /// # Errors
    /// The server broke the protocol. Close the carrier.
    pub fn handle_input(&mut self, now: Time, chunk: Bytes) -> Result<(), Violation> {
        if matches!(self.state, StandbyState::Over) {
            return Ok(());
        }
        self.handle_heard(now);
        self.decoder.push(chunk);
        let result = self.handle_packets(now);
        if result.is_err() {
            (self.state, self.event) = (StandbyState::Over, None);
        }
        result
    }

    fn handle_packets(&mut self, now: Time) -> Result<(), Violation> {
        while let Some((header, payload)) = self.decoder.poll()? {
            self.handle_packet(now, &header, &payload)?;
            if matches!(self.state, StandbyState::Over) {
                break;
            }
        }
        Ok(())
    }

    fn handle_packet(
        &mut self,
        now: Time,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if header.session != 0 {
            return Err(Violation::OutOfPlace(header.kind));
        }
        match (header.kind, &mut self.state) {
            (Kind::Standby, StandbyState::Asking(question)) if let Some(sent) = question.sent() => {
                let answer =
                    StandbyAnswer::decode(payload).map_err(Violation::payload(Kind::Standby))?;
                if answer.version != VERSION {
                    return Err(Violation::WrongAnswer);
                }
                self.first_round_trip = Some(now.since(sent));
                let interval = self.config.heartbeat.min(answer.silence / 3).max(MIN_INTERVAL);
                let patience = self.config.patience.min(interval);
                self.state =
                    StandbyState::Ready(Box::new(Liveness::asking(now, interval, patience)));
                self.event = Some(StandbyEvent::Ready);
            }
            (Kind::Refused, StandbyState::Asking(question)) if question.sent().is_some() => {
                let refusal =
                    Refusal::decode(payload).map_err(Violation::payload(Kind::Refused))?;
                self.state = StandbyState::Over;
                self.event = Some(StandbyEvent::Refused(refusal));
            }
            (Kind::Echo, StandbyState::Ready(liveness)) => {
                if !liveness.handle_echo(now, header.ack) {
                    return Err(Violation::OutOfPlace(Kind::Echo));
                }
            }
            (kind, _) => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// Returns the next packet for the carrier.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        match &mut self.state {
            StandbyState::Asking(question) => question.send(now).then(|| {
                let (version, oldest) = (VERSION, OLDEST_VERSION);
                let request = StandbyRequest { version, oldest, tunnel: self.tunnel };
                Transmit::of_tunnel(Kind::Standby, request.encode())
            }),
            StandbyState::Ready(liveness) => {
                let transmit = liveness.poll_transmit(now)?;
                liveness.handle_sent(now);
                Some(transmit)
            }
            StandbyState::Over => None,
        }
    }

    /// Returns the next event for the driver.
    pub fn poll_event(&mut self) -> Option<StandbyEvent> {
        if let Some(event) = self.event.take() {
            return Some(event);
        }
        let suspicion = self.suspicion();
        let is_news = suspicion.is_some() != self.is_suspected;
        self.is_suspected = suspicion.is_some();
        is_news.then(|| suspicion.map_or(StandbyEvent::Relieved, StandbyEvent::Suspected))
    }

    /// Asks with a heartbeat at once whether the carrier is alive, because something happened to
    /// the path. If a heartbeat is unanswered, no other is sent.
    pub fn probe(&mut self, now: Time) {
        if let StandbyState::Ready(liveness) = &mut self.state {
            liveness.probe(now);
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next, or `None` when it is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            StandbyState::Asking(question) => Some(question.poll_timeout()),
            StandbyState::Ready(liveness) => Some(liveness.poll_timeout()),
            StandbyState::Over => None,
        }
    }

    /// Handles the passing of time. Give it first what arrived before `now`: an answer may be
    /// waiting to be read.
    pub fn handle_timeout(&mut self, now: Time) {
        let is_dead = match &mut self.state {
            StandbyState::Asking(question) => question.handle_timeout(now),
            StandbyState::Ready(liveness) => !liveness.handle_timeout(now),
            StandbyState::Over => false,
        };
        if is_dead {
            self.state = StandbyState::Over;
            self.event = Some(StandbyEvent::Dead);
        }
    }

    /// Returns the state that the tunnel takes over with a carrier that is to join: the start of a
    /// packet, its liveness, and how long an answer may take. Returns `None` if it does not stand
    /// by for `tunnel`.
    pub(crate) fn into_joining(self, tunnel: TunnelId) -> Option<(Decoder, Liveness, Duration)> {
        let StandbyState::Ready(liveness) = self.state else { return None };
        (self.tunnel == tunnel).then_some((self.decoder, *liveness, self.config.patience))
    }

    /// Returns the state that the tunnel takes over with the carrier: the start of a packet whose
    /// rest has not arrived, and the heartbeat whose echo may still come. Returns `None` if it does
    /// not stand by for `tunnel`.
    pub(crate) fn into_carrier(self, tunnel: TunnelId) -> Option<(Decoder, Option<Seq>)> {
        let StandbyState::Ready(liveness) = self.state else { return None };
        (self.tunnel == tunnel).then(|| (self.decoder, liveness.under_way()))
    }
}
