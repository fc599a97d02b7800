//! A forward whose listener is at the server, and one request for it.

#[cfg(target_os = "linux")]
use std::os::fd::RawFd;

use eternaltcp_proto::Reset;
#[cfg(target_os = "linux")]
use eternaltcp_proto::{SessionId, TunnelId};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::address::{Forward, Listen};
use crate::recovery::KeptListeners;
#[cfg(target_os = "linux")]
use crate::recovery::OwnedListener;
#[cfg(target_os = "linux")]
use crate::store::{self, ListenerOwner, ListenerPurpose, ListenerRule};

/// A forward whose listener is at the server.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RemoteForward {
    /// The address on which the server listens, and the target that this side connects.
    pub forward: Forward,
    /// Tell the target who connected to the server, in a header of the PROXY protocol.
    pub send_proxy: bool,
}

impl RemoteForward {
    /// Creates a forward whose target is not told who connected.
    #[must_use]
    pub fn new(forward: Forward) -> Self {
        Self { forward, send_proxy: false }
    }
}

/// A listener at the server, as the client's role knows it.
#[derive(Debug)]
pub(crate) struct RemoteListener {
    /// The address on which the server should listen.
    pub(crate) at: Listen,
    pub(super) remote: RemoteForward,
    ended: oneshot::Sender<Reset>,
    /// The forward's end of the pair, as the next process finds it.
    #[cfg(target_os = "linux")]
    own: Option<(RawFd, u64)>,
    /// The record of this end in the store.
    _kept: KeptListeners,
}

/// The forward's end of a listener at the server.
#[derive(Debug)]
pub(super) struct AttendedListener {
    /// The address on which the server should listen.
    pub(super) at: Listen,
    pub(super) remote: RemoteForward,
    /// The end of the pair whose other end is the session's.
    pub(super) own: UnixStream,
    /// The reason why the listener ended.
    pub(super) reason: oneshot::Receiver<Reset>,
}

impl RemoteListener {
    /// Creates a request to listen, and the forward's end of it, which is `own`.
    pub(super) fn new(
        at: Listen,
        remote: RemoteForward,
        own: UnixStream,
    ) -> (Self, AttendedListener) {
        let (ended, reason) = oneshot::channel();
        let listener = Self {
            at: at.clone(),
            remote: remote.clone(),
            ended,
            #[cfg(target_os = "linux")]
            own: store::identify(&own),
            _kept: KeptListeners::default(),
        };
        (listener, AttendedListener { at, remote, own, reason })
    }

    /// Keeps it for the next process, as a listener of this session in the client's tunnel of this
    /// number, at the server of this name.
    #[cfg(target_os = "linux")]
    pub(crate) fn keep(self, session: SessionId, generation: u32, server: Option<&str>) -> Self {
        let Self { at, remote, own, .. } = &self;
        let Some(own) = own else { return self };
        let mut text = format!("{}\n{at}\n{}", u8::from(remote.send_proxy), remote.forward);
        server.into_iter().for_each(|server| text += &format!("\n{server}"));
        let owner = ListenerOwner { tunnel: numbered(generation), session, pair: (0, 0) };
        let purpose = ListenerPurpose::Forward;
        let rule = ListenerRule { purpose, text, file: None, owner: Some(owner) };
        let kept = store::keep_socket(&rule, *own).into_iter().collect();
        Self { _kept: kept, ..self }
    }

    /// Returns the name of the server in the text of a kept listener, if it has one.
    #[cfg(target_os = "linux")]
    pub(super) fn server_in(text: &str) -> Option<&str> {
        text.splitn(4, '\n').nth(3)
    }

    /// Returns whether a kept listener belongs to the client's tunnel of this number.
    #[cfg(target_os = "linux")]
    pub(super) fn is_of(found: &OwnedListener, generation: u32) -> bool {
        found.owner.tunnel == numbered(generation)
    }

    /// Returns the session and the listener that an earlier process has left. Returns `None` if
    /// they cannot be used.
    #[cfg(target_os = "linux")]
    pub(super) fn recovered(found: OwnedListener) -> Option<(SessionId, Self, AttendedListener)> {
        let mut parts = found.text.splitn(4, '\n');
        let send_proxy = parts.next()? == "1";
        let at = parts.next()?.parse().ok()?;
        let remote = RemoteForward { forward: parts.next()?.parse().ok()?, send_proxy };
        let own = found.listener.sockets.into_iter().next()?;
        let own = UnixStream::from_std(own.into()).ok()?;
        let (listener, attended) = Self::new(at, remote, own);
        Some((found.owner.session, Self { _kept: found.listener.kept, ..listener }, attended))
    }

    /// Ends the listener, for this reason.
    pub(crate) fn end(self, why: Reset) {
        // If the forward itself is over, there is no receiver.
        let _ = self.ended.send(why);
    }

    /// Returns whether the forward that would learn of the listener's end is gone.
    pub(super) fn is_forgotten(&self) -> bool {
        self.ended.is_closed()
    }
}

/// Returns a tunnel's number in place of its id, which it may not have yet.
#[cfg(target_os = "linux")]
fn numbered(generation: u32) -> TunnelId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&generation.to_le_bytes());
    TunnelId(id)
}
