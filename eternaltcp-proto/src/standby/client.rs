//! The client's part of a standby carrier.

use std::time::Duration;

use bytes::Bytes;

use super::beats::{Beats, Question};
use super::message::{Answer, StandbyRequest};
use crate::attach::{OLDEST_VERSION, VERSION};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::TunnelId;
use crate::packet::{Header, Kind};
use crate::reason::Refusal;
use crate::seq::Seq;
use crate::time::Time;
use crate::transmit::Transmit;

/// Heartbeats are never closer together than this, whatever the server says.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

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
    state: State,
    /// The last event that was not polled; a later one says all.
    event: Option<StandbyEvent>,
    round_trip: Option<Duration>,
}

#[derive(Debug)]
enum State {
    /// The server is asked for a place.
    Asking(Question),
    /// It gave one.
    Ready(Beats),
    /// The carrier is of no use.
    Over,
}

impl Standby {
    pub(crate) fn new(now: Time, tunnel: TunnelId, config: StandbyConfig) -> Self {
        Self {
            tunnel,
            config,
            decoder: Decoder::default(),
            state: State::Asking(Question::new(now, config.patience)),
            event: None,
            round_trip: None,
        }
    }

    /// The tunnel that it stands by for.
    #[must_use]
    pub fn tunnel(&self) -> TunnelId {
        self.tunnel
    }

    /// Whether the server has given it a place, and it is not known to be dead.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// How long the last answer took.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Plaintext of the carrier, in order.
    ///
    /// # Errors
    /// When the server breaks the protocol: close the carrier.
    pub fn handle_input(&mut self, now: Time, chunk: Bytes) -> Result<(), Violation> {
        if matches!(self.state, State::Over) {
            return Ok(());
        }
        self.decoder.push(chunk);
        let result = self.handle_packets(now);
        if result.is_err() {
            (self.state, self.event) = (State::Over, None);
        }
        result
    }

    fn handle_packets(&mut self, now: Time) -> Result<(), Violation> {
        while let Some((header, payload)) = self.decoder.poll()? {
            self.handle_packet(now, &header, &payload)?;
            if matches!(self.state, State::Over) {
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
            (Kind::Standby, State::Asking(Question { sent: Some(sent), .. })) => {
                let answer = Answer::decode(payload).map_err(Violation::payload(Kind::Standby))?;
                if answer.version != VERSION {
                    return Err(Violation::WrongAnswer);
                }
                self.round_trip = Some(now.since(*sent));
                let interval = self.config.heartbeat.min(answer.silence / 3).max(LEAST_INTERVAL);
                self.state = State::Ready(Beats::new(now, interval, self.config.patience));
                self.event = Some(StandbyEvent::Ready);
            }
            (Kind::Refused, State::Asking(Question { sent: Some(_), .. })) => {
                let refusal =
                    Refusal::decode(payload).map_err(Violation::payload(Kind::Refused))?;
                self.state = State::Over;
                self.event = Some(StandbyEvent::Refused(refusal));
            }
            (Kind::Echo, State::Ready(beats)) => {
                let sent = beats.answered(now, header.ack);
                let sent = sent.ok_or(Violation::OutOfPlace(Kind::Echo))?;
                self.round_trip = Some(now.since(sent));
            }
            (kind, _) => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// The next packet for the carrier.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        match &mut self.state {
            State::Asking(question) => question.send(now).then(|| {
                let (version, oldest) = (VERSION, OLDEST_VERSION);
                let request = StandbyRequest { version, oldest, tunnel: self.tunnel };
                Transmit::of_tunnel(Kind::Standby, request.encode())
            }),
            State::Ready(beats) => {
                Some(Transmit::empty(Kind::Heartbeat, 0, beats.send(now)?, Seq::default()))
            }
            State::Over => None,
        }
    }

    /// What the driver is to know.
    pub fn poll_event(&mut self) -> Option<StandbyEvent> {
        self.event.take()
    }

    /// Something happened to the path: a heartbeat asks at once whether the
    /// carrier lives, unless one is under way.
    pub fn probe(&mut self, now: Time) {
        if let State::Ready(beats) = &mut self.state {
            beats.ask(now);
        }
    }

    /// When [`Self::handle_timeout`] is next to be called; `None` when it is
    /// over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            State::Asking(question) => Some(question.until),
            State::Ready(beats) => Some(beats.poll_timeout()),
            State::Over => None,
        }
    }

    /// Time has passed. What arrived before `now` is to be given first: an
    /// answer may wait to be read.
    pub fn handle_timeout(&mut self, now: Time) {
        let is_dead = match &mut self.state {
            State::Asking(question) => question.handle_timeout(now),
            State::Ready(beats) => beats.handle_timeout(now),
            State::Over => false,
        };
        if is_dead {
            self.state = State::Over;
            self.event = Some(StandbyEvent::Dead);
        }
    }

    /// What the tunnel takes over with a carrier that is to join: the beginning of
    /// a packet, the heartbeats, and how long an answer may take. `None` if it
    /// does not stand by for `tunnel`.
    pub(crate) fn into_joining(self, tunnel: TunnelId) -> Option<(Decoder, Beats, Duration)> {
        let State::Ready(beats) = self.state else { return None };
        (self.tunnel == tunnel).then_some((self.decoder, beats, self.config.patience))
    }

    /// What the tunnel takes over with the carrier: the beginning of a packet
    /// whose rest has not arrived, and the heartbeat whose echo may yet come.
    /// `None` if it does not stand by for `tunnel`.
    pub(crate) fn into_carrier(self, tunnel: TunnelId) -> Option<(Decoder, Option<Seq>)> {
        let State::Ready(beats) = self.state else { return None };
        (self.tunnel == tunnel).then(|| (self.decoder, beats.under_way()))
    }
}
