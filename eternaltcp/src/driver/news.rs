//! The beginnings and ends of sessions, for the record of a server.

use std::net::SocketAddr;

use eternaltcp_proto::{Reset, SessionId};

use super::metadata::Metadata;

/// Sessions that began or ended, until the driver tells its role; `None` if the role is not told.
#[derive(Debug)]
pub(super) struct NewsQueue(Option<Vec<SessionNews>>);

impl NewsQueue {
    pub(super) fn new() -> Self {
        Self(Some(Vec::new()))
    }

    /// Drops all news from now on, and those that were noted.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    pub(super) fn note(&mut self, id: SessionId, metadata: &Metadata, what: SessionChange) {
        if let Some(news) = &mut self.0 {
            news.push(SessionNews { id, metadata: metadata.clone(), what });
        }
    }

    /// Returns the news since the last call.
    pub(super) fn take(&mut self) -> Vec<SessionNews> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// A session that began or ended.
#[derive(Debug)]
pub(crate) struct SessionNews {
    pub(crate) id: SessionId,
    pub(crate) metadata: Metadata,
    pub(crate) what: SessionChange,
}

/// What happened to a session.
#[derive(Clone, Debug)]
pub(crate) enum SessionChange {
    /// It has a local connection, to this address if it is known.
    Opened(Option<SocketAddr>),
    /// Both directions ended in order.
    Ended,
    /// Its local connection failed, or was reset.
    Broken(Reset),
    /// It was reset by the peer, or by a decision of this side.
    Aborted(Reset),
    /// Its local connection could not be recovered.
    Lost,
}
