//! Sessions that the program takes itself, instead of a target.

use std::io;
use std::net::IpAddr;

use eternaltcp_proto::{Cause, Reset};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Context;
use super::connect::{connect, permit};
use super::registry::Entry;
use crate::address::Target;
use crate::net::origin::Origin;
use crate::net::stream::Stream;
use crate::session::pipe::pipe;
use crate::session::{Session, error_of};
use eternaltcp_tls::PublicKey;

/// A session that a client opened to a target that it may have. It waits for
/// an answer for [`ServerLimits::connect_timeout`](super::ServerLimits::connect_timeout); one that is
/// dropped is refused.
#[derive(Debug)]
pub struct IncomingSession {
    target: Target,
    is_named: bool,
    key: PublicKey,
    from: IpAddr,
    answer: oneshot::Sender<Answer>,
}

/// What the program says to it.
#[derive(Debug)]
enum Answer {
    Take(Stream),
    Refuse(Reset),
    Connect,
}

impl IncomingSession {
    /// What the client asked for, or the server's default target.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the client named the target.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// The key that the client's user has proved: `authorized_keys` admits it.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Where the client's last carrier came from.
    #[must_use]
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Takes the session: the client learns that its target is connected.
    ///
    /// # Errors
    /// `ConnectionReset` when the client has given it up, or the answer comes
    /// too late.
    pub fn accept(self) -> io::Result<Session> {
        let (ours, theirs) = pipe();
        let taken = self.answer.send(Answer::Take(Stream::memory(theirs)));
        taken.map_err(|_| error_of(&Reset::new(Cause::Application)))?;
        Ok(Session::new(ours))
    }

    /// Refuses the session: the client's error is `ConnectionRefused` with this
    /// line, 400 bytes of it at most.
    pub fn refuse(self, why: impl Into<String>) {
        self.reset(Reset::with_detail(Cause::Refused, why.into()));
    }

    /// Refuses the session with a cause of one's own.
    pub fn reset(self, why: Reset) {
        // Who asked may be gone: then it needs no answer.
        let _ = self.answer.send(Answer::Refuse(why));
    }

    /// Lets the server connect the target, as sproxy would.
    pub fn connect(self) {
        // As above.
        let _ = self.answer.send(Answer::Connect);
    }
}

/// What a session asks for.
pub(super) struct Asked {
    pub(super) target: Target,
    /// Whether the client named it.
    pub(super) is_named: bool,
    /// Where the connection came from, if the client says so.
    pub(super) origin: Option<Origin>,
}

/// Hands a session to the program, if the key may have its target, and does
/// what the program says.
pub(super) async fn hand_out(
    context: &Context,
    entry: &Entry,
    asked: Asked,
    program: &mpsc::Sender<IncomingSession>,
) -> Result<Stream, Reset> {
    let Asked { target, is_named, origin } = asked;
    let late = Reset::with_detail(Cause::TimedOut, target.to_string());
    let answered = timeout(context.limits.connect_timeout, async {
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
        Answer::Take(stream) => Ok(stream),
        Answer::Refuse(reset) => Err(reset),
        Answer::Connect => connect(context, entry, &target, origin.as_ref()).await,
    }
}
