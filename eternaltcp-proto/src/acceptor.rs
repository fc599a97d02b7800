//! The server's ear on a carrier that is bound to no tunnel yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::attach::{EARLY_BYTES, EARLY_PACKETS, Hello, HelloError, Intent, may_be_early};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::{Epoch, TunnelId};
use crate::numbers::{Numbers, check_count, push_numbers};
use crate::packet::{Header, HeaderError, Kind};
use crate::reason::Refusal;
use crate::request::{AttachRequest, JoinRequest};
use crate::standby::{StandbyRequest, Waiting, read_join};
use crate::time::Time;
use crate::transmit::Transmit;

/// Collects a client's request. It yields the [`Hello`] before it looks at
/// anything behind it, so that the key and the tunnel are judged before memory
/// is spent on numbers.
///
/// The client may ask to stand by first: it is judged, and let by
/// [`Self::let_stand_by`]. Until its attach follows, the driver sends what
/// [`Self::poll_transmit`] gives, says when it read something, and closes the
/// carrier once [`Self::poll_timeout`] has passed.
#[derive(Debug)]
pub struct Acceptor {
    decoder: Decoder,
    phase: Phase,
    max_numbers: usize,
}

/// How far the carrier has come.
#[derive(Debug)]
enum Phase {
    /// The client has said nothing.
    Silent,
    /// It asks to stand by for this tunnel, and is not judged.
    Asking(TunnelId),
    /// It stands by.
    StandingBy(Waiting),
    /// It asks to join what is attached with this epoch.
    Joining(TunnelId, Epoch, Waiting),
    /// It asks to be attached.
    Attaching(Box<Request>),
    /// So many early packets belong to the request yet.
    Early(Box<Request>, usize),
    /// That request is whole.
    Complete(Box<Request>),
}

/// An attach as far as it has come.
#[derive(Debug)]
struct Request {
    hello: Hello,
    numbers: Vec<Numbers>,
    early: Vec<(Header, Bytes)>,
    /// Payload bytes that may come early yet.
    early_room: usize,
}

impl Request {
    fn new(hello: Hello) -> Self {
        Self { hello, numbers: Vec::new(), early: Vec::new(), early_room: EARLY_BYTES }
    }

    fn is_new(&self) -> bool {
        matches!(self.hello.intent, Intent::New { .. })
    }

    /// All numbers are there: so many early packets follow.
    fn finish_numbers(&self, payload: &[u8]) -> Result<usize, Violation> {
        let early = check_count(&self.numbers, payload)?;
        let most = if self.is_new() { 0 } else { EARLY_PACKETS };
        if early <= most { Ok(early) } else { Err(Violation::WrongAnswer) }
    }

    fn push_early(&mut self, header: &Header, payload: &Bytes) -> Result<(), Violation> {
        if !may_be_early(header) {
            return Err(Violation::OutOfPlace(header.kind));
        }
        let room = self.early_room.checked_sub(payload.len());
        self.early_room = room.ok_or(Violation::WrongAnswer)?;
        self.early.push((*header, payload.clone()));
        Ok(())
    }
}

/// How far a request has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More input is needed.
    More,
    /// The client asks to stand by: judge it as for an attach to that tunnel,
    /// then [`Acceptor::let_stand_by`] and go on.
    Standby(StandbyRequest),
    /// The carrier that stands by is to join the attached one: take it with
    /// [`Acceptor::into_join`].
    Join,
    /// The client said who it is and what it wants: judge, then go on.
    Hello(Hello),
    /// The request is whole: take it with [`Acceptor::into_request`].
    Complete,
}

/// Why a carrier's first packets are no request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AcceptError {
    /// The `attach` packet cannot be understood.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// Something else breaks the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl From<HeaderError> for AcceptError {
    fn from(error: HeaderError) -> Self {
        Self::Violation(error.into())
    }
}

impl Acceptor {
    /// An acceptor that takes the numbers of so many sessions at most.
    #[must_use]
    pub fn new(max_numbers: usize) -> Self {
        Self { decoder: Decoder::default(), phase: Phase::Silent, max_numbers }
    }

    /// Adds plaintext of the carrier. It is kept without a bound until
    /// [`Self::poll`] takes it: poll until it says [`Progress::More`] before more is
    /// read.
    pub fn handle_input(&mut self, chunk: Bytes) {
        self.decoder.push(chunk);
    }

    /// The next thing to do.
    ///
    /// # Errors
    /// When the packets are no request: close the carrier, after the refusal
    /// that the error may have.
    pub fn poll(&mut self) -> Result<Progress, AcceptError> {
        while let Some((header, payload)) = self.decoder.poll()? {
            if let Some(progress) = self.handle_packet(&header, &payload)? {
                return Ok(progress);
            }
        }
        let is_complete = matches!(self.phase, Phase::Complete(..));
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
            (Kind::Standby, Phase::Silent) if header.session == 0 => {
                let request = StandbyRequest::decode(payload)?;
                self.phase = Phase::Asking(request.tunnel);
                return Ok(Some(Progress::Standby(request)));
            }
            (Kind::Heartbeat, Phase::StandingBy(waiting)) if header.session == 0 => {
                waiting.handle_heartbeat(header.seq);
            }
            (Kind::Join, Phase::StandingBy(_)) if header.session == 0 => {
                self.begin_join(read_join(payload)?)?;
                return Ok(Some(Progress::Join));
            }
            (Kind::Attach, Phase::Silent | Phase::StandingBy(_)) => {
                let hello = Hello::decode(payload)?;
                if !self.may_ask(&hello.intent) {
                    return Err(Violation::OutOfPlace(Kind::Attach).into());
                }
                self.phase = Phase::Attaching(Box::new(Request::new(hello.clone())));
                return Ok(Some(Progress::Hello(hello)));
            }
            (Kind::Numbers, Phase::Attaching(request)) => {
                let most = if request.is_new() { 0 } else { self.max_numbers };
                let one =
                    Numbers::decode(header, payload).map_err(Violation::payload(Kind::Numbers))?;
                push_numbers(&mut request.numbers, one, most)?;
            }
            (Kind::NumbersEnd, Phase::Attaching(request)) => {
                let early = request.finish_numbers(payload)?;
                self.await_early(early);
            }
            (_, Phase::Early(request, left)) => {
                request.push_early(header, payload)?;
                let left = *left - 1;
                self.await_early(left);
            }
            (kind, _) => return Err(Violation::OutOfPlace(kind).into()),
        }
        Ok(None)
    }

    /// A client asks to join that was told that it stands by.
    fn begin_join(&mut self, epoch: Epoch) -> Result<(), Violation> {
        let phase = std::mem::replace(&mut self.phase, Phase::Silent);
        match phase {
            Phase::StandingBy(waiting) if let Some(tunnel) = waiting.tunnel() => {
                self.phase = Phase::Joining(tunnel, epoch, waiting);
                Ok(())
            }
            _ => Err(Violation::OutOfPlace(Kind::Join)),
        }
    }

    /// The request is whole but for so many early packets.
    fn await_early(&mut self, left: usize) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Silent) {
            Phase::Attaching(request) | Phase::Early(request, _) if left == 0 => {
                Phase::Complete(request)
            }
            Phase::Attaching(request) | Phase::Early(request, _) => Phase::Early(request, left),
            phase => phase,
        };
    }

    /// Whether an attach may come now: on standby, of that tunnel only.
    fn may_ask(&self, intent: &Intent) -> bool {
        match &self.phase {
            Phase::StandingBy(waiting) => waiting.is_for(intent),
            _ => true,
        }
    }

    /// Lets the client stand by, which asked for it; silence for this long ends
    /// the carrier.
    pub fn let_stand_by(&mut self, now: Time, silence: Duration) {
        if let Phase::Asking(tunnel) = self.phase {
            self.phase = Phase::StandingBy(Waiting::new(now, tunnel, silence));
        }
    }

    /// Bytes were read from the carrier's socket: any are a sign of life.
    pub fn handle_heard(&mut self, now: Time) {
        if let Phase::StandingBy(waiting) = &mut self.phase {
            waiting.handle_heard(now);
        }
    }

    /// When a carrier that stands by was silent for too long. What arrived
    /// before is to be read first.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.phase {
            Phase::StandingBy(waiting) => Some(waiting.poll_timeout()),
            _ => None,
        }
    }

    /// What is to be sent to a client that stands by: two packets wait at most.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        match &mut self.phase {
            Phase::StandingBy(waiting) => waiting.poll_transmit(),
            _ => None,
        }
    }

    /// The carrier that is to join, if that was asked for, with what was given and
    /// not polled.
    #[must_use]
    pub fn into_join(self) -> Option<JoinRequest> {
        let Phase::Joining(tunnel, epoch, waiting) = self.phase else { return None };
        let liveness = waiting.into_liveness();
        Some(JoinRequest { tunnel, epoch, decoder: self.decoder, liveness })
    }

    /// The request, if it is whole and nothing was given behind it.
    #[must_use]
    pub fn into_request(self) -> Option<AttachRequest> {
        if !self.decoder.is_empty() {
            return None;
        }
        let Phase::Complete(request) = self.phase else { return None };
        let Request { hello, numbers, early, .. } = *request;
        Some(AttachRequest { hello, numbers, early, decoder: self.decoder })
    }
}

/// The bytes of a refusal, for a carrier that gets no tunnel.
#[must_use]
pub fn encode_refusal(refusal: &Refusal) -> Vec<u8> {
    let Transmit { header, payload } = Transmit::of_tunnel(Kind::Refused, refusal.encode());
    let mut bytes = VecDeque::from(header.encode());
    bytes.extend(payload);
    bytes.into()
}
