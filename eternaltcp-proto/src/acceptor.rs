//! The server's side of a carrier that is not bound to a tunnel yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::attach::{Hello, HelloError, Intent};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::{Epoch, TunnelId};
use crate::packet::{Header, HeaderError, Kind};
use crate::reason::Refusal;
use crate::request::{AttachRequest, JoinRequest, PartialRequest};
use crate::standby::{StandbyRequest, Waiting, read_join};
use crate::time::Time;
use crate::transmit::Transmit;

/// Collects a client's request. It yields the [`Hello`] before it reads anything behind it, so that
/// the driver can check the key and the tunnel before memory is spent on numbers.
///
/// The client may ask to stand by first. The driver checks that request and accepts it with
/// [`Self::let_stand_by`]. Until the client's attach follows, the driver sends what
/// [`Self::poll_transmit`] returns, reports every read, and closes the carrier once
/// [`Self::poll_timeout`] has passed.
#[derive(Debug)]
pub struct Acceptor {
    decoder: Decoder,
    phase: AcceptPhase,
    max_numbers: usize,
}

/// The progress of the carrier.
#[derive(Debug)]
enum AcceptPhase {
    /// The client has sent nothing.
    Silent,
    /// It asks to stand by for this tunnel, and the driver has not decided yet.
    Asking(TunnelId),
    /// It stands by.
    StandingBy(Waiting),
    /// It asks to join the carrier that is attached with this epoch.
    Joining(TunnelId, Epoch, Waiting),
    /// It asks to be attached.
    Attaching(Box<PartialRequest>),
}

/// The progress of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More input is needed.
    More,
    /// The client asks to stand by. Check it as an attach to that tunnel, then call
    /// [`Acceptor::let_stand_by`] and continue to poll.
    Standby(StandbyRequest),
    /// The carrier that stands by asks to join the attached one. Take it with
    /// [`Acceptor::into_join`].
    Join,
    /// The client stated its identity and its request. Check it, then continue to poll.
    Hello(Hello),
    /// The request is complete. Take it with [`Acceptor::into_request`].
    Complete,
}

/// The reason why a carrier's first packets are not a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AcceptError {
    /// The `attach` packet is malformed or of an unknown version.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// Another violation of the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl From<HeaderError> for AcceptError {
    fn from(error: HeaderError) -> Self {
        Self::Violation(error.into())
    }
}

impl Acceptor {
    /// Creates an acceptor that takes the numbers of at most this many sessions.
    #[must_use]
    pub fn new(max_numbers: usize) -> Self {
        Self { decoder: Decoder::default(), phase: AcceptPhase::Silent, max_numbers }
    }

    /// Adds plaintext of the carrier. The amount kept until [`Self::poll`] takes it has no bound:
    /// poll until it returns [`Progress::More`] before you read more.
    pub fn handle_input(&mut self, chunk: Bytes) {
        self.decoder.push(chunk);
    }

    /// Returns the next thing to do.
    ///
    /// # Errors
    /// The packets are not a request. Close the carrier, after sending the error's refusal if it
    /// has one.
    pub fn poll(&mut self) -> Result<Progress, AcceptError> {
        while let Some((header, payload)) = self.decoder.poll()? {
            if let Some(progress) = self.handle_packet(&header, &payload)? {
                return Ok(progress);
            }
        }
        let is_complete =
            matches!(&self.phase, AcceptPhase::Attaching(request) if request.is_complete());
        if is_complete && !self.decoder.is_empty() {
            return Err(Violation::WrongAnswer.into());
        }
        Ok(if is_complete { Progress::Complete } else { Progress::More })
    }

    fn handle_packet(
        &mut self,
        header: &Header,
        payload: &Bytes,
    ) -> Result<Option<Progress>, AcceptError> {
        match (header.kind, &mut self.phase) {
            (Kind::Standby, AcceptPhase::Silent) if header.session == 0 => {
                let request = StandbyRequest::decode(payload)?;
                self.phase = AcceptPhase::Asking(request.tunnel);
                return Ok(Some(Progress::Standby(request)));
            }
            (Kind::Heartbeat, AcceptPhase::StandingBy(waiting)) if header.session == 0 => {
                waiting.handle_heartbeat(header.seq);
            }
            (Kind::Join, AcceptPhase::StandingBy(_)) if header.session == 0 => {
                self.begin_join(read_join(payload)?)?;
                return Ok(Some(Progress::Join));
            }
            (Kind::Attach, AcceptPhase::Silent | AcceptPhase::StandingBy(_)) => {
                let hello = Hello::decode(payload)?;
                if !self.may_ask(&hello.intent) {
                    return Err(Violation::OutOfPlace(Kind::Attach).into());
                }
                self.phase = AcceptPhase::Attaching(Box::new(PartialRequest::new(hello.clone())));
                return Ok(Some(Progress::Hello(hello)));
            }
            (_, AcceptPhase::Attaching(request)) => {
                request.handle_packet(header, payload, self.max_numbers)?;
            }
            (kind, _) => return Err(Violation::OutOfPlace(kind).into()),
        }
        Ok(None)
    }

    /// Handles a request to join from a client that was told that it stands by.
    fn begin_join(&mut self, epoch: Epoch) -> Result<(), Violation> {
        let phase = std::mem::replace(&mut self.phase, AcceptPhase::Silent);
        match phase {
            AcceptPhase::StandingBy(waiting) if let Some(tunnel) = waiting.tunnel() => {
                self.phase = AcceptPhase::Joining(tunnel, epoch, waiting);
                Ok(())
            }
            _ => Err(Violation::OutOfPlace(Kind::Join)),
        }
    }

    /// Returns whether an attach may come now. A carrier that stands by may only attach to its own
    /// tunnel.
    fn may_ask(&self, intent: &Intent) -> bool {
        match &self.phase {
            AcceptPhase::StandingBy(waiting) => waiting.is_for(intent),
            _ => true,
        }
    }

    /// Accepts the client's request to stand by. The carrier ends after `silence` without input.
    pub fn let_stand_by(&mut self, now: Time, silence: Duration) {
        if let AcceptPhase::Asking(tunnel) = self.phase {
            self.phase = AcceptPhase::StandingBy(Waiting::new(now, tunnel, silence));
        }
    }

    /// Handles a read from the carrier's socket: any byte is a sign of life.
    pub fn handle_heard(&mut self, now: Time) {
        if let AcceptPhase::StandingBy(waiting) = &mut self.phase {
            waiting.handle_heard(now);
        }
    }

    /// Returns the time at which a carrier that stands by will have been silent for too long. Read
    /// the data that has already arrived before you act on it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.phase {
            AcceptPhase::StandingBy(waiting) => Some(waiting.poll_timeout()),
            _ => None,
        }
    }

    /// Returns what to send to a client that stands by. At most two packets wait.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        match &mut self.phase {
            AcceptPhase::StandingBy(waiting) => waiting.poll_transmit(),
            _ => None,
        }
    }

    /// Returns the carrier that asks to join, if it does, with the input that was not polled.
    #[must_use]
    pub fn into_join(self) -> Option<JoinRequest> {
        let AcceptPhase::Joining(tunnel, epoch, waiting) = self.phase else { return None };
        let liveness = waiting.into_liveness();
        Some(JoinRequest { tunnel, epoch, decoder: self.decoder, liveness })
    }

    /// Returns the request, if it is complete and nothing followed it.
    #[must_use]
    pub fn into_request(self) -> Option<AttachRequest> {
        if !self.decoder.is_empty() {
            return None;
        }
        let AcceptPhase::Attaching(request) = self.phase else { return None };
        request.is_complete().then(|| request.finish(self.decoder))
    }
}

/// Returns the bytes of a refusal, for a carrier that gets no tunnel.
#[must_use]
pub fn encode_refusal(refusal: &Refusal) -> Vec<u8> {
    let Transmit { header, payload } = Transmit::of_tunnel(Kind::Refused, refusal.encode());
    let mut bytes = VecDeque::from(header.encode());
    bytes.extend(payload);
    bytes.into()
}
