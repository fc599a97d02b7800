//! Opens sessions in a client's tunnel.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::succession::Succession;
use crate::address::{AddressError, Target};
use crate::dynamic::TargetRequest;
use crate::net::stream::Stream;
use crate::session::Session;
use crate::session::pipe::pipe;
use crate::target::{RESOLVER, encode_target};

/// Opens sessions in a client's present tunnel; cheap to clone. It does not keep the client alive.
#[derive(Clone, Debug)]
pub struct Opener(pub(super) Arc<Succession>);

/// The reason why a session cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The text is not a target.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The client has ended.
    #[error("the tunnel is closed")]
    Ended,
    /// The tunnel cannot have any further session: its numbers are used up.
    #[error("the tunnel's session numbers are used up: a new tunnel is needed")]
    Exhausted,
}

impl Opener {
    /// Opens a session to `target`: `host:port`, `[v6]:port` or `unix:/path`, as the server sees
    /// it. The server must permit it.
    ///
    /// The call does not wait for the server. While there is no carrier, the session waits
    /// ([`ClientConfig::wait`](super::ClientConfig::wait)) with the bytes that were written to it.
    /// The call waits only while the server has not yet learned of
    /// [`ClientConfig::max_waiting`](super::ClientConfig::max_waiting) other sessions, and while
    /// the tunnel has its maximum number of sessions. If the target cannot be reached, the next
    /// read or write fails; [`Session::connected`] waits for the target. Cancelling the call opens
    /// nothing, or a session that is closed in order.
    ///
    /// # Errors
    /// The text is not a target, or the client has ended.
    pub async fn open<T>(&self, target: T) -> Result<Session, OpenError>
    where
        T: TryInto<Target>,
        OpenError: From<T::Error>,
    {
        let target = target.try_into()?;
        self.open_memory(Some(&target)).await
    }

    /// Opens a session to the server's default target, as [`Self::open`] does.
    ///
    /// Cancelling it has the same effect.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_default(&self) -> Result<Session, OpenError> {
        self.open_memory(None).await
    }

    async fn open_memory(&self, target: Option<&Target>) -> Result<Session, OpenError> {
        let (ours, theirs) = pipe();
        self.carry_memory(Stream::memory(theirs), target).await?;
        Ok(Session::new(ours))
    }

    /// Forwards a local socket to `target`, or to the server's default target. The client reads and
    /// writes the socket itself, which costs less than copying between it and a [`Session`]. Waits
    /// for the tunnel as [`Self::open`] does: accept the next connection when this returns, and
    /// further ones wait in the kernel. Returns whether the client still runs.
    ///
    /// Dropping the future closes the socket, unless the session was opened already.
    pub async fn carry(&self, stream: Stream, target: Option<&Target>) -> bool {
        let target = encode_target(target, stream.origin().as_ref());
        self.0.present().handle().open(stream, target, None).await
    }

    /// Forwards a local connection to the server's resolver, which speaks DNS over TCP (RFC 7766),
    /// if the server permits it.
    ///
    /// Dropping the future has the same effect as with [`Self::carry`].
    pub async fn carry_to_resolver(&self, stream: Stream) -> bool {
        self.0.present().handle().open(stream, RESOLVER, None).await
    }

    /// Forwards the connection of an application that named its target, and reports to it when that
    /// is connected, or why it is not.
    pub(crate) async fn carry_request(&self, stream: Stream, request: TargetRequest) -> bool {
        let target = encode_target(Some(&request.target), stream.origin().as_ref());
        self.0.present().handle().open(stream, target, Some(request.asked)).await
    }

    /// Waits for the client's end.
    pub(crate) async fn ended(&self) {
        self.0.over().await;
    }

    async fn carry_memory(&self, stream: Stream, target: Option<&Target>) -> Result<(), OpenError> {
        use eternaltcp_proto::SessionOpenError as Refused;
        let (opened, answer) = oneshot::channel();
        let target = encode_target(target, stream.origin().as_ref());
        self.0.present().handle().open_numbered(stream, target, None, Some(opened)).await;
        match answer.await {
            Ok(Ok(_)) => Ok(()),
            // Excess connections wait, and every target fits.
            Ok(Err(Refused::NumbersUsedUp | Refused::LimitReached | Refused::BadTarget)) => {
                Err(OpenError::Exhausted)
            }
            Ok(Err(Refused::Closed)) | Err(_) => Err(OpenError::Ended),
        }
    }
}

/// For callers that already have a [`Target`].
impl From<Infallible> for OpenError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
