//! The beginnings and ends of sessions, for the record of a server.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use eternaltcp_proto::{Reset, SessionId, Tunnel};

use super::metadata::Metadata;

/// The maximum number of tails that are looked at whenever the number of sessions changes. If there
/// are more, they are looked at each second.
const FEW_TAILS: usize = 64;

/// Sessions that began or ended, until the driver tells its role; `None` if the role is not told.
#[derive(Debug)]
pub(super) struct NewsQueue(Option<PendingNews>);

#[derive(Default, Debug)]
struct PendingNews {
    news: Vec<SessionNews>,
    /// Sessions whose local connection ended in order before the peer had all of its bytes: until
    /// then they have not ended.
    tails: BTreeMap<SessionId, Metadata>,
}

impl NewsQueue {
    pub(super) fn new() -> Self {
        Self(Some(PendingNews::default()))
    }

    /// Drops all news from now on, and those that were noted.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    pub(super) fn note(&mut self, id: SessionId, metadata: &Metadata, what: SessionChange) {
        if let Some(pending) = &mut self.0 {
            pending.add(id, metadata.clone(), what);
        }
    }

    /// Notes that a local connection ended in order. That is the end of its session when the peer
    /// has all bytes.
    pub(super) fn note_ended(&mut self, id: SessionId, metadata: &Metadata, tunnel: &Tunnel) {
        let Some(pending) = &mut self.0 else { return };
        if is_delivered(tunnel, id) {
            pending.add(id, metadata.clone(), SessionChange::Ended);
        } else {
            pending.tails.insert(id, metadata.clone());
        }
    }

    /// Notes that a local connection has ended in order in an earlier process, which has told the end
    /// of the session unless the peer lacks bytes.
    #[cfg(target_os = "linux")]
    pub(super) fn note_tail(&mut self, id: SessionId, metadata: &Metadata, tunnel: &Tunnel) {
        if let Some(pending) = &mut self.0
            && !is_delivered(tunnel, id)
        {
            pending.tails.insert(id, metadata.clone());
        }
    }

    /// Notes that a session without a local connection is reset, if the end of the connection is not
    /// the end that was noted.
    pub(super) fn note_reset(&mut self, id: SessionId, reset: &Reset) {
        let Some(pending) = &mut self.0 else { return };
        if let Some(metadata) = pending.tails.remove(&id) {
            pending.add(id, metadata, SessionChange::Aborted(reset.clone()));
        }
    }

    /// Returns whether a session's local connection has ended, and its end is not noted yet.
    pub(super) fn is_tail(&self, id: SessionId) -> bool {
        self.0.as_ref().is_some_and(|pending| pending.tails.contains_key(&id))
    }

    /// Notes the ends of sessions that the tunnel has forgotten, because the peer has everything, if
    /// that costs little.
    pub(super) fn look(&mut self, tunnel: &Tunnel) {
        if let Some(pending) = &mut self.0
            && pending.tails.len() <= FEW_TAILS
        {
            pending.look(tunnel);
        }
    }

    /// Notes the ends of sessions that the tunnel has forgotten. Must be called each second.
    pub(super) fn tick(&mut self, tunnel: &Tunnel) {
        if let Some(pending) = &mut self.0 {
            pending.look(tunnel);
        }
    }

    /// Notes the ends of all sessions without a local connection, because the tunnel has ended.
    pub(super) fn finish(&mut self, tunnel: &Tunnel, why: &Reset) {
        let Some(pending) = &mut self.0 else { return };
        for (id, metadata) in std::mem::take(&mut pending.tails) {
            let what = match is_delivered(tunnel, id) {
                true => SessionChange::Ended,
                false => SessionChange::Aborted(why.clone()),
            };
            pending.add(id, metadata, what);
        }
    }

    /// Returns the news since the last call.
    pub(super) fn take(&mut self) -> Vec<SessionNews> {
        self.0.as_mut().map(|pending| std::mem::take(&mut pending.news)).unwrap_or_default()
    }
}

impl PendingNews {
    fn add(&mut self, id: SessionId, metadata: Metadata, what: SessionChange) {
        self.news.push(SessionNews { id, metadata, what });
    }

    fn look(&mut self, tunnel: &Tunnel) {
        for (id, metadata) in self.tails.extract_if(.., |id, _| !tunnel.has_session(*id)) {
            self.news.push(SessionNews { id, metadata, what: SessionChange::Ended });
        }
    }
}

/// Returns whether the peer's application has all bytes of a session.
fn is_delivered(tunnel: &Tunnel, id: SessionId) -> bool {
    tunnel.session_view(id).is_none_or(|view| view.queued == 0)
}

/// A session that began or ended.
#[derive(Debug)]
pub(crate) struct SessionNews {
    pub(crate) id: SessionId,
    pub(crate) metadata: Metadata,
    pub(crate) what: SessionChange,
}

/// An event in the life of a session.
#[derive(Clone, Debug)]
pub(crate) enum SessionChange {
    /// It has a local connection, to this address if it is known.
    Opened(Option<SocketAddr>),
    /// Its target was not connected, or not before the session was reset.
    Refused(Reset),
    /// Both directions ended in order.
    Ended,
    /// Its local connection failed, or was reset.
    Broken(Reset),
    /// It was reset by the peer, or by a decision of this side.
    Aborted(Reset),
    /// Its local connection could not be recovered.
    Lost,
}
