//! Requests of an operator to a driver: show its status, end a session, or drain.

use std::time::Duration;

use eternaltcp_proto::{Cause, Closing, Reset, SessionId, SessionPhase};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Action, Driver, Role};
use crate::recovery::keep_plain_drain;
use crate::report::counted;
use crate::status::{Peer, ServerPeer, TunnelCondition, TunnelOverview, TunnelStatus};

/// A request of an operator.
#[derive(Debug)]
pub(crate) enum OperatorRequest {
    /// The tunnel's status.
    Status(oneshot::Sender<TunnelStatus>),
    /// The tunnel's status with at most this many of its sessions.
    Overview(usize, oneshot::Sender<TunnelOverview>),
    /// End a session.
    Kill(SessionId, oneshot::Sender<Killed>),
    /// End the tunnel. The answer is the number of sessions, which are reset.
    End(oneshot::Sender<usize>),
    /// Take no new sessions, and end with the last one, or after this long. The answer is the
    /// number of sessions.
    Drain(Option<Duration>, oneshot::Sender<usize>),
}

/// The result of ending a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Killed {
    /// Both its ends are reset.
    Done,
    /// It is already being reset.
    Already,
    /// There is no such session.
    Unknown,
}

/// Returns the reset of a session that arrives while this side is being drained.
pub(super) fn drained() -> Reset {
    Reset::with_detail(
        Cause::LimitReached,
        "no new sessions are accepted: the program is about to end",
    )
}

impl<R: Role> Driver<R> {
    pub(super) fn answer_ask(&mut self, ask: OperatorRequest) {
        // The client may be gone.
        match ask {
            OperatorRequest::Status(asked) => drop(asked.send(self.status(usize::MAX))),
            OperatorRequest::Overview(max, asked) => {
                let (status, sessions) = (self.status(max), self.tunnel.session_count());
                let _ = asked.send(TunnelOverview { status, sessions });
            }
            OperatorRequest::Kill(id, asked) => drop(asked.send(self.kill(id))),
            OperatorRequest::End(asked) => {
                let count = self.tunnel.session_count();
                let sessions = counted(count, "session is", "sessions are");
                warn!("tunnel ended, as the operator asked; {sessions} reset");
                let _ = asked.send(count);
                self.apply(Action::Close(Closing::Killed));
            }
            OperatorRequest::Drain(limit, asked) => {
                keep_plain_drain(limit);
                self.drain(limit);
                // The end comes with a tick, after the answer.
                let _ = asked.send(self.tunnel.session_count());
            }
        }
    }

    /// Takes no new sessions from now on, and ends with the last one, or after `limit`.
    pub(crate) fn drain(&mut self, limit: Option<Duration>) {
        info!("no new sessions are accepted; {} continue", self.tunnel.session_count());
        self.lifecycle.drain(limit);
    }

    fn kill(&mut self, id: SessionId) -> Killed {
        match self.tunnel.session_view(id).map(|view| view.stage) {
            None => Killed::Unknown,
            Some(SessionPhase::Resetting) => Killed::Already,
            Some(_) => {
                warn!(session = id.get(), "session reset, as the operator asked");
                if self.sockets.awaits_end(id) {
                    self.role.handle_kill(id);
                }
                self.tunnel.kill(self.clocks.round(), id, Reset::new(Cause::Killed));
                Killed::Done
            }
        }
    }

    /// Ends a tunnel that has been drained.
    pub(super) fn check_drain(&mut self) {
        if self.lifecycle.is_drained(self.tunnel.session_count()) {
            let left = counted(self.tunnel.session_count(), "session is", "sessions are");
            info!("drained; {left} left");
            self.apply(Action::Close(Closing::Done));
        }
    }

    /// Returns the status with at most `max` sessions.
    fn status(&self, max: usize) -> TunnelStatus {
        let totals = self.sockets.totals(&self.tunnel);
        let sessions: Vec<_> = self
            .tunnel
            .session_ids()
            .filter_map(|id| self.sockets.status(id, &self.tunnel))
            .take(max)
            .collect();
        let mut status = TunnelStatus {
            tunnel: self.tunnel.id().map(|id| id.to_string()),
            peer: Peer::Server(ServerPeer::default()),
            started_at: totals.started_at,
            state: self.state(),
            state_since_at: self.clocks.changed_at(),
            why: None,
            carrier: self.carriers.status(self.clocks.round(), &self.tunnel),
            carriers: totals.attaches,
            sent_bytes: totals.sent_bytes,
            received_bytes: totals.delivered_bytes,
            queued_bytes: sessions.iter().map(|session| session.queued_bytes).sum(),
            undelivered_bytes: sessions.iter().map(|session| session.undelivered_bytes).sum(),
            replayed_bytes: totals.replayed_bytes,
            standby: None,
            last_loss: None,
            sessions,
        };
        let now = self.clocks.round();
        self.role.describe(now, &self.tunnel, &self.carriers, &mut status);
        status
    }

    fn state(&self) -> TunnelCondition {
        if self.lifecycle.is_closing() {
            TunnelCondition::Closing
        } else if self.tunnel.is_attached() {
            let is_doubted = self.tunnel.suspicion().is_some();
            if is_doubted { TunnelCondition::Doubted } else { TunnelCondition::Attached }
        } else if self.carriers.attached().is_some() {
            TunnelCondition::Attaching
        } else {
            TunnelCondition::Detached
        }
    }
}
