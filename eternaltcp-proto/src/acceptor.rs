//! The server's ear on a carrier that is bound to no tunnel yet.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::attach::{Hello, HelloError, Intent, Numbers, of_tunnel};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::packet::{HeaderError, Kind};
use crate::reason::Refusal;
use crate::tunnel::{check_count, push_numbers};

/// Collects a client's request. It yields the [`Hello`] before it looks at
/// anything behind it, so that the key and the tunnel are judged before memory
/// is spent on numbers.
#[derive(Debug)]
pub struct Acceptor {
    decoder: Decoder,
    hello: Option<Hello>,
    numbers: Vec<Numbers>,
    max_numbers: usize,
    is_complete: bool,
}

/// A whole request, to be given to [`crate::Tunnel::handle_attach`].
#[derive(Clone, Debug)]
pub struct AttachRequest {
    pub(crate) hello: Hello,
    pub(crate) numbers: Vec<Numbers>,
    pub(crate) decoder: Decoder,
}

impl AttachRequest {
    /// What the client said of itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }
}

/// How far a request has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More input is needed.
    More,
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
        Self {
            decoder: Decoder::default(),
            hello: None,
            numbers: Vec::new(),
            max_numbers,
            is_complete: false,
        }
    }

    /// Adds plaintext of the carrier; [`Self::poll`] must have said
    /// [`Progress::More`] before.
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
            match (header.kind, &self.hello) {
                (Kind::Attach, None) => {
                    let hello = Hello::decode(&payload)?;
                    self.hello = Some(hello.clone());
                    return Ok(Progress::Hello(hello));
                }
                (Kind::Numbers, Some(hello)) if !self.is_complete => {
                    let is_new = matches!(hello.intent, Intent::New { .. });
                    let most = if is_new { 0 } else { self.max_numbers };
                    let numbers = Numbers::decode(&header, &payload)
                        .map_err(Violation::payload(Kind::Numbers))?;
                    push_numbers(&mut self.numbers, numbers, most)?;
                }
                (Kind::NumbersEnd, Some(_)) if !self.is_complete => {
                    check_count(&self.numbers, &payload)?;
                    self.is_complete = true;
                }
                (kind, _) => return Err(Violation::OutOfPlace(kind).into()),
            }
        }
        if self.is_complete && !self.decoder.is_empty() {
            return Err(Violation::WrongAnswer.into());
        }
        Ok(if self.is_complete { Progress::Complete } else { Progress::More })
    }

    /// The request, if it is whole.
    #[must_use]
    pub fn into_request(self) -> Option<AttachRequest> {
        let hello = self.hello.filter(|_| self.is_complete)?;
        Some(AttachRequest { hello, numbers: self.numbers, decoder: self.decoder })
    }
}

/// The bytes of a refusal, for a carrier that gets no tunnel.
#[must_use]
pub fn encode_refusal(refusal: &Refusal) -> Vec<u8> {
    let (header, payload) = of_tunnel(Kind::Refused, refusal.encode());
    let mut bytes = VecDeque::from(header.encode());
    bytes.extend(payload);
    bytes.into()
}
