//! New sessions of this side, until something of them is sent.
//!
//! They need a permit, of which there is a bounded number, and the accepting task takes
//! one first. Connections without a permit therefore wait in the kernel's queue, and no session
//! ends because of a count.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{SessionId, SessionOpenError, Tunnel};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tracing::warn;

use crate::dynamic::ProtocolRequest;
use crate::net::stream::Stream;
use crate::report::counted;

/// The interval at which to log that new connections wait for a share.
const WARN_PAUSE: Duration = Duration::from_secs(60);

/// A session to be opened for a local connection.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) stream: Stream,
    pub(crate) target: Bytes,
    /// The dialect in which an application that asked for its target gets its answer.
    pub(crate) asked: Option<ProtocolRequest>,
    pub(crate) opened: Option<oneshot::Sender<Result<SessionId, SessionOpenError>>>,
    /// Its permit as an unsent session.
    pub(super) place: OwnedSemaphorePermit,
}

/// The permits that are taken, in the order of the sessions.
#[derive(Debug, Default)]
pub(super) struct Entrance {
    /// Sessions of which nothing was sent.
    unsent: VecDeque<(SessionId, OwnedSemaphorePermit)>,
    /// Connections that wait until the tunnel has a share for them.
    waiting: VecDeque<Newcomer>,
    warned_at: Option<Instant>,
}

impl Entrance {
    /// Records a session that was opened.
    pub(super) fn handle_opened(&mut self, id: SessionId, place: OwnedSemaphorePermit) {
        self.unsent.push_back((id, place));
    }

    /// Lets a connection wait because the tunnel has no share for it.
    pub(super) fn wait(&mut self, newcomer: Newcomer, sessions: usize) {
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_PAUSE) {
            self.warned_at = Some(Instant::now());
            warn!(
                "new connections wait until others end: the tunnel has {}, the maximum; \
                 if these are fewer than 16000, a higher --memory of the server allows more",
                counted(sessions, "session", "sessions")
            );
        }
        self.waiting.push_back(newcomer);
    }

    /// Returns the connection that has waited longest for a share.
    pub(super) fn next(&mut self) -> Option<Newcomer> {
        self.waiting.pop_front()
    }

    /// Returns whether a connection waits for a share.
    pub(super) fn is_waited_at(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Releases the permits of the oldest sessions of which something was sent.
    pub(super) fn release(&mut self, tunnel: &Tunnel) {
        while self.unsent.front().is_some_and(|(id, _)| !is_unsent(tunnel, *id)) {
            self.unsent.pop_front();
        }
    }

    /// Releases the permits of all such sessions, because a session in the middle may have ended.
    /// Call this once a second.
    pub(super) fn tick(&mut self, tunnel: &Tunnel) {
        self.unsent.retain(|(id, _)| is_unsent(tunnel, *id));
    }
}

fn is_unsent(tunnel: &Tunnel, id: SessionId) -> bool {
    tunnel.has_session(id) && !tunnel.is_transmitted(id)
}
