//! Sessions that the program accepts itself, instead of a target.

use std::io;
use std::net::IpAddr;

use eternaltcp_proto::{Cause, Reset};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Context;
use super::connect::{connect, permit};
use super::registry::TunnelEntry;
use crate::address::Target;
use crate::net::origin::Origin;
use crate::net::stream::Stream;
use crate::session::pipe::pipe;
use crate::session::{Session, error_of};
use eternaltcp_tls::PublicKey;

/// A session that a client opened to a permitted target. It waits for an answer for
/// [`ServerLimits::connect_timeout`](super::ServerLimits::connect_timeout); dropping it refuses it.
#[derive(Debug)]
pub struct IncomingSession {
    target: Target,
    is_named: bool,
    key: PublicKey,
    from: IpAddr,
    answer: oneshot::Sender<IncomingDecision>,
}

/// The program's answer.
#[derive(Debug)]
enum IncomingDecision {
    Take(Stream),
    Refuse(Reset),
    Connect,
}

impl IncomingSession {
    /// Returns the target that the client named, or the server's default target.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns whether the client named the target.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// Returns the key that the client's user has proved: `authorized_keys` admits it.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns the source address of the client's last carrier.
    #[must_use]
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Accepts the session: the client learns that its target is connected.
    ///
    /// # Errors
    /// `ConnectionReset` if the client has abandoned it, or the answer comes too late.
    pub fn accept(self) -> io::Result<Session> {
        let (ours, theirs) = pipe();
        let taken = self.answer.send(IncomingDecision::Take(Stream::memory(theirs)));
        taken.map_err(|_| error_of(&Reset::new(Cause::Application)))?;
        Ok(Session::new(ours))
    }

    /// Refuses the session: the client's error is `ConnectionRefused` with this line, cut to 400
    /// bytes.
    pub fn refuse(self, why: impl Into<String>) {
        self.reset(Reset::with_detail(Cause::Refused, why.into()));
    }

    /// Refuses the session with another cause.
    pub fn reset(self, why: Reset) {
        // The requester may be gone: then it needs no answer.
        let _ = self.answer.send(IncomingDecision::Refuse(why));
    }

    /// Makes the server connect the target, as sproxy would.
    pub fn connect(self) {
        // As above.
        let _ = self.answer.send(IncomingDecision::Connect);
    }
}

/// The request of a session.
pub(super) struct SessionRequest {
    pub(super) target: Target,
    /// Whether the client named the target.
    pub(super) is_named: bool,
    /// The origin of the connection, if the client sends it.
    pub(super) origin: Option<Origin>,
}

/// Passes a session to the program, if the key may reach its target, and carries out the answer.
pub(super) async fn hand_out(
    context: &Context,
    entry: &TunnelEntry,
    asked: SessionRequest,
    program: &mpsc::Sender<IncomingSession>,
) -> Result<Stream, Reset> {
    let SessionRequest { target, is_named, origin } = asked;
    let late = Reset::with_detail(Cause::TimedOut, target.to_string());
    let answered = timeout(context.rules().limits.connect_timeout, async {
        permit(context, entry, &target).await?;
        let target = target.clone();
        let (answer, answered) = oneshot::channel();
        let (key, from) = (entry.user.clone(), entry.from());
        let session = IncomingSession { target, is_named, key, from, answer };
        let gone = || Reset::with_detail(Cause::Refused, "the program does not take it");
        program.send(session).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    });
    match answered.await.unwrap_or(Err(late))? {
        IncomingDecision::Take(stream) => Ok(stream),
        IncomingDecision::Refuse(reset) => Err(reset),
        IncomingDecision::Connect => connect(context, entry, &target, origin.as_ref()).await,
    }
}
