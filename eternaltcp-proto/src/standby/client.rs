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

/// Settings of a standby carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandbyConfig {
    /// A heartbeat is sent this often, or three times in the silence that the
    /// server allows; not more than once a second.
    pub heartbeat: Duration,
    /// An answer takes no longer than this, and than the time between two
    /// heartbeats: else the carrier is dead.
    pub patience: Duration,
}

impl Default for StandbyConfig {
    /// Often enough for the entry of a NAT to stay, and for a death to be known
    /// before the carrier is needed.
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), patience: Duration::from_secs(3) }
    }
}

/// What the driver of a standby carrier is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StandbyEvent {
    /// The carrier stands by: [`crate::Tunnel::attach_standby`] may take it.
    Ready,
    /// The server refused it: close it.
    Refused(Refusal),
    /// An answer did not come in time: close it.
    Dead,
}

/// A carrier that stands by for a tunnel, as a state machine without I/O. It is
/// made by [`crate::Tunnel::stand_by`]. After each input, drain
/// [`Self::poll_event`] and [`Self::poll_transmit`], and come back when
/// [`Self::poll_timeout`] says. It is of no use after any event but
/// [`StandbyEvent::Ready`].
#[derive(Debug)]
pub struct Standby {
    tunnel: TunnelId,
    config: StandbyConfig,
    decoder: Decoder,
    state: StandbyState,
    /// The last event that was not polled; a later one says all.
    event: Option<StandbyEvent>,
    /// How long the answer to the request took.
    first_round_trip: Option<Duration>,
}

#[derive(Debug)]
enum StandbyState {
    /// The server is asked for a place.
    Asking(Question),
    /// It gave one.
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
            first_round_trip: None,
        }
    }

    /// The tunnel that it stands by for.
    #[must_use]
    pub fn tunnel(&self) -> TunnelId {
        self.tunnel
    }

    /// Whether it may be used: the server has given it a place, and it is neither dead
    /// nor doubted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, StandbyState::Ready(_)) && self.suspicion().is_none()
    }

    /// Whether and why the carrier is doubted now: a heartbeat was not answered within a
    /// few round trips.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        self.liveness()?.suspicion()
    }

    /// The smoothed round trip.
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

    /// Bytes were read from the carrier's socket, whether or not they make up
    /// plaintext yet.
    pub fn handle_heard(&mut self, now: Time) {
        if let StandbyState::Ready(liveness) = &mut self.state {
            liveness.handle_heard(now);
        }
    }

    /// Plaintext of the carrier, in order.
    ///
    /// # Errors
    /// When the server breaks the protocol: close the carrier.
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

    /// The next packet for the carrier.
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

    /// What the driver is to know.
    pub fn poll_event(&mut self) -> Option<StandbyEvent> {
        self.event.take()
    }

    /// Something happened to the path: a heartbeat asks at once whether the
    /// carrier lives, unless one is under way.
    pub fn probe(&mut self, now: Time) {
        if let StandbyState::Ready(liveness) = &mut self.state {
            liveness.probe(now);
        }
    }

    /// When [`Self::handle_timeout`] is next to be called; `None` when it is
    /// over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            StandbyState::Asking(question) => Some(question.poll_timeout()),
            StandbyState::Ready(liveness) => Some(liveness.poll_timeout()),
            StandbyState::Over => None,
        }
    }

    /// Time has passed. What arrived before `now` is to be given first: an
    /// answer may wait to be read.
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

    /// What the tunnel takes over with a carrier that is to join: the beginning of
    /// a packet, its liveness, and how long an answer may take. `None` if it
    /// does not stand by for `tunnel`, or is doubted.
    pub(crate) fn into_joining(self, tunnel: TunnelId) -> Option<(Decoder, Liveness, Duration)> {
        let is_fit = self.tunnel == tunnel && self.is_ready();
        let StandbyState::Ready(liveness) = self.state else { return None };
        is_fit.then_some((self.decoder, *liveness, self.config.patience))
    }

    /// What the tunnel takes over with the carrier: the beginning of a packet
    /// whose rest has not arrived, and the heartbeat whose echo may yet come.
    /// `None` if it does not stand by for `tunnel`, or is doubted.
    pub(crate) fn into_carrier(self, tunnel: TunnelId) -> Option<(Decoder, Option<Seq>)> {
        let is_fit = self.tunnel == tunnel && self.is_ready();
        let StandbyState::Ready(liveness) = self.state else { return None };
        is_fit.then(|| (self.decoder, liveness.under_way()))
    }
}
