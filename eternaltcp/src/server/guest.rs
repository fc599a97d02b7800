//! A stranger on its way to a carrier: it proves a key, and says what it wants.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use eternaltcp_proto::{
    AcceptError, Acceptor, AttachRequest, Hello, Progress, Refusal, encode_refusal,
};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Context;
use crate::driver::{CarrierError, CarrierIo};
use crate::net::prepare_carrier;
use crate::tls::{Connection, HandshakeError, PublicKey, handshake};

/// Sessions that a client may list at an attach: more than any has, and 2 MiB
/// of memory at most.
const MAX_NUMBERS: usize = 1 << 16;

/// Why a connection did not become a carrier.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwelcome {
    #[error("it took too long")]
    TimedOut,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
    #[error("{0}")]
    Refused(Refusal),
}

impl From<std::io::Error> for Unwelcome {
    fn from(error: std::io::Error) -> Self {
        Self::Carrier(error.into())
    }
}

/// A connection that did not become a carrier.
pub(super) struct TurnedAway {
    pub(super) why: Unwelcome,
    /// It carries a refusal that is still to arrive.
    pub(super) carrier: Option<CarrierIo>,
}

impl From<Unwelcome> for TurnedAway {
    fn from(why: Unwelcome) -> Self {
        Self { why, carrier: None }
    }
}

/// A client whose key is proved, on its way to a tunnel.
pub(super) struct Guest {
    carrier: CarrierIo,
    acceptor: Acceptor,
    chunks: VecDeque<Bytes>,
    pub(super) key: PublicKey,
    pub(super) from: IpAddr,
}

impl Guest {
    /// Has the stranger prove a key.
    pub(super) async fn meet(
        context: &Context,
        stream: TcpStream,
        from: IpAddr,
        deadline: Instant,
    ) -> Result<Self, Unwelcome> {
        prepare_carrier(&stream)?;
        let mut tls = Connection::server(&context.tls).map_err(HandshakeError::from)?;
        let mut incoming = BytesMut::new();
        let done = handshake(&stream, &mut tls, &mut incoming, deadline).await?;
        let carrier = CarrierIo::new(stream, tls, incoming)?;
        let acceptor = Acceptor::new(MAX_NUMBERS);
        Ok(Self { carrier, acceptor, chunks: done.early.into(), key: done.peer, from })
    }

    /// What the client wants. What it sent behind that stays unread.
    pub(super) async fn hello(&mut self) -> Result<Hello, Unwelcome> {
        loop {
            match self.advance().await? {
                Progress::Hello(hello) => return Ok(hello),
                Progress::More => {}
                Progress::Complete => return Err(Unwelcome::TimedOut),
            }
        }
    }

    /// Feeds the acceptor until it has something to say.
    async fn advance(&mut self) -> Result<Progress, Unwelcome> {
        match self.acceptor.poll()? {
            Progress::More => {}
            progress => return Ok(progress),
        }
        if let Some(chunk) = self.chunks.pop_front() {
            self.acceptor.handle_input(chunk);
            return Ok(self.acceptor.poll()?);
        }
        let mut plaintext = Vec::new();
        let read = poll_fn(|cx| match self.carrier.poll_read(cx, &mut plaintext) {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        });
        let result = read.await;
        self.chunks.extend(plaintext);
        match result {
            Err(_) if !self.chunks.is_empty() => Ok(Progress::More),
            result => result.map(|()| Progress::More).map_err(Unwelcome::from),
        }
    }

    /// Waits for the rest of the request.
    pub(super) async fn request(&mut self) -> Result<(), Unwelcome> {
        loop {
            match self.advance().await? {
                Progress::Complete => return Ok(()),
                Progress::More => {}
                Progress::Hello(_) => return Err(Unwelcome::TimedOut),
            }
        }
    }

    /// Tells the client why not, as far as it can understand.
    pub(super) fn turn_away(mut self, why: Unwelcome) -> TurnedAway {
        let refusal = match &why {
            Unwelcome::Refused(refusal) => Some(refusal.clone()),
            Unwelcome::Accept(AcceptError::Hello(error)) => error.refusal(),
            _ => None,
        };
        let is_told =
            refusal.is_some_and(|refusal| self.carrier.push(&encode_refusal(&refusal)).is_ok());
        TurnedAway { why, carrier: is_told.then_some(self.carrier) }
    }

    /// The whole request and its carrier, once [`Self::request`] is done.
    pub(super) fn into_request(self) -> Option<(AttachRequest, CarrierIo)> {
        Some((self.acceptor.into_request()?, self.carrier))
    }
}
