//! The client's part of a standby carrier: its request, and the server's answer.

use std::time::Duration;

use super::message::{StandbyAnswer, StandbyRequest};
use super::question::Question;
use crate::attach::{OLDEST_VERSION, VERSION};
use crate::error::Violation;
use crate::id::TunnelId;
use crate::liveness::Liveness;
use crate::packet::{Header, Kind};
use crate::reason::Refusal;
use crate::suspicion::Suspicion;
use crate::time::Time;
use crate::transmit::Transmit;

/// The minimum interval of heartbeats, whatever the server requests.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The settings of a standby carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandbyConfig {
    /// The interval at which a heartbeat is sent. It is also sent at least three times in the
    /// silence that the server allows, but not more than once a second.
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

/// The reason why a carrier does not stand by, or no longer does.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StandbyLoss {
    /// The server refused it.
    #[error("{0}")]
    Refused(Refusal),
    /// An answer did not come in time.
    #[error("it does not answer")]
    Dead,
    /// The tunnel for which it stood by has ended.
    #[error("its tunnel has ended")]
    TunnelOver,
}

/// The stage of a carrier that stands by, or has asked to.
#[derive(Debug)]
pub(crate) struct Standby {
    tunnel: TunnelId,
    config: StandbyConfig,
    /// The request, until the server has agreed.
    question: Option<Question>,
    /// Whether a doubt was reported to the driver.
    is_doubted: bool,
    /// The time until the answer to the request.
    first_round_trip: Option<Duration>,
}

/// The server's answer to the request.
pub(crate) enum Decision {
    /// The carrier stands by. Heartbeats are sent at this interval, and answered within this time.
    Ready {
        interval: Duration,
        patience: Duration,
    },
    Refused(Refusal),
}

impl Standby {
    pub(crate) fn new(now: Time, tunnel: TunnelId, config: StandbyConfig) -> Self {
        let question = Some(Question::new(now, config.patience));
        Self { tunnel, config, question, is_doubted: false, first_round_trip: None }
    }

    /// Creates the liveness of the carrier. It decides nothing before the server's answer.
    pub(crate) fn liveness(&self, now: Time) -> Liveness {
        Liveness::asking(now, self.config.heartbeat, self.config.patience)
    }

    /// Returns whether the server let it stand by.
    pub(crate) fn is_ready(&self) -> bool {
        self.question.is_none()
    }

    /// Returns how long an answer may take.
    pub(crate) fn patience(&self) -> Duration {
        self.config.patience
    }

    /// Returns how long the answer to the request took.
    pub(crate) fn first_round_trip(&self) -> Option<Duration> {
        self.first_round_trip
    }

    /// Handles the answer to the request.
    pub(crate) fn handle_answer(
        &mut self,
        now: Time,
        header: &Header,
        payload: &[u8],
    ) -> Result<Decision, Violation> {
        let sent = self.question.as_ref().and_then(Question::sent);
        let sent = sent.filter(|_| header.session == 0);
        match (header.kind, sent) {
            (Kind::Standby, Some(sent)) => {
                let answer =
                    StandbyAnswer::decode(payload).map_err(Violation::payload(Kind::Standby))?;
                if answer.version != VERSION {
                    return Err(Violation::WrongAnswer);
                }
                (self.question, self.first_round_trip) = (None, Some(now.since(sent)));
                let interval = self.config.heartbeat.min(answer.silence / 3).max(MIN_INTERVAL);
                let patience = self.config.patience.min(interval);
                Ok(Decision::Ready { interval, patience })
            }
            (Kind::Refused, Some(_)) => Refusal::decode(payload)
                .map(Decision::Refused)
                .map_err(Violation::payload(Kind::Refused)),
            (kind, _) => Err(Violation::OutOfPlace(kind)),
        }
    }

    /// Returns the next packet for the carrier.
    pub(crate) fn poll_transmit(&mut self, now: Time, liveness: &mut Liveness) -> Option<Transmit> {
        match &mut self.question {
            Some(question) => question.send(now).then(|| {
                let (version, oldest) = (VERSION, OLDEST_VERSION);
                let request = StandbyRequest { version, oldest, tunnel: self.tunnel };
                Transmit::of_tunnel(Kind::Standby, request.encode())
            }),
            None => liveness.poll_transmit(now),
        }
    }

    pub(crate) fn poll_timeout(&self, liveness: &Liveness) -> Time {
        self.question.as_ref().map_or_else(|| liveness.poll_timeout(), Question::poll_timeout)
    }

    /// Returns whether the carrier still counts as alive.
    pub(crate) fn handle_timeout(&mut self, now: Time, liveness: &mut Liveness) -> bool {
        match &mut self.question {
            Some(question) => !question.handle_timeout(now),
            None => liveness.handle_timeout(now),
        }
    }

    /// Returns a change of the doubt once: the doubt that has begun, or `None` if it has ended.
    pub(crate) fn poll_doubt(&mut self, liveness: &Liveness) -> Option<Option<Suspicion>> {
        let doubt = liveness.suspicion().filter(|_| self.is_ready());
        let is_changed = doubt.is_some() != self.is_doubted;
        self.is_doubted = doubt.is_some();
        is_changed.then_some(doubt)
    }
}
