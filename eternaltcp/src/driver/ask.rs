//! What an operator asks of a driver: how it stands, that a session ends, and
//! that it ends itself once its sessions have.

use std::time::{Duration, SystemTime};

use eternaltcp_proto::{Cause, Closing, Reset, SessionId, Stage};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Driver, Role, Verdict};
use crate::report::counted;
use crate::status::{CarrierStatus, Peer, ServerPeer, TunnelState, TunnelStatus};

/// Something that an operator asks.
#[derive(Debug)]
pub(crate) enum Ask {
    /// How the tunnel stands.
    Status(oneshot::Sender<TunnelStatus>),
    /// End a session.
    Kill(SessionId, oneshot::Sender<Killed>),
    /// Take no new sessions, and end with the last one, or after this long.
    /// The answer is how many there are.
    Drain(Option<Duration>, oneshot::Sender<usize>),
}

/// What became of the wish that a session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Killed {
    /// Both its ends are reset.
    Done,
    /// It is being reset already.
    Already,
    /// There is no such session.
    Unknown,
}

/// The tunnel takes no new sessions, and ends with the last one.
#[derive(Debug)]
pub(super) struct Drain {
    /// When it ends all the same.
    until: Option<Instant>,
}

impl Drain {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// The reset of a session that comes to a side which is being drained.
pub(super) fn drained() -> Reset {
    Reset::with_detail(Cause::LimitReached, "no new sessions are taken: the program is to end")
}

impl<R: Role> Driver<R> {
    pub(super) fn answer_ask(&mut self, ask: Ask) {
        // Whoever asked may be gone.
        match ask {
            Ask::Status(asked) => drop(asked.send(self.status())),
            Ask::Kill(id, asked) => drop(asked.send(self.kill(id))),
            Ask::Drain(limit, asked) => {
                info!("no new sessions are taken; {} go on", self.tunnel.session_count());
                let until = limit.map(|limit| Instant::now() + limit);
                self.drain = Some(Drain { until });
                self.shared.set_draining();
                // The end comes with a tick: the answer goes first.
                let _ = asked.send(self.tunnel.session_count());
            }
        }
    }

    fn kill(&mut self, id: SessionId) -> Killed {
        match self.tunnel.session_view(id).map(|view| view.stage) {
            None => Killed::Unknown,
            Some(Stage::Resetting) => Killed::Already,
            Some(_) => {
                warn!("session {id}: reset, as the operator asked");
                self.tunnel.kill(self.now, id, Reset::new(Cause::Killed));
                Killed::Done
            }
        }
    }

    /// Ends a tunnel that is drained.
    pub(super) fn check_drain(&mut self) {
        let Some(drain) = &self.drain else { return };
        if self.closing.is_none() && (self.tunnel.session_count() == 0 || drain.is_over()) {
            let left = counted(self.tunnel.session_count(), "session is", "sessions are");
            info!("drained; {left} left");
            self.obey(Verdict::Close(Closing::Done));
        }
    }

    fn status(&self) -> TunnelStatus {
        let stats = self.tunnel.stats();
        let sessions: Vec<_> =
            self.tunnel.session_ids().filter_map(|id| self.session(id)).collect();
        let mut status = TunnelStatus {
            tunnel: self.tunnel.id().map(|id| id.to_string()),
            peer: Peer::Server(ServerPeer::default()),
            started_at: self.started_at,
            state: self.state(),
            state_since_at: self.changed_at,
            why: None,
            carrier: self.carrier_status(),
            carriers: stats.attaches,
            sent_bytes: stats.sent_bytes,
            received_bytes: stats.delivered_bytes,
            queued_bytes: sessions.iter().map(|session| session.queued_bytes).sum(),
            undelivered_bytes: sessions.iter().map(|session| session.undelivered_bytes).sum(),
            replayed_bytes: stats.replayed_bytes,
            last_loss: None,
            sessions,
        };
        self.role.describe(&self.tunnel, &mut status);
        status
    }

    fn session(&self, id: SessionId) -> Option<crate::status::SessionStatus> {
        let about = self.locals.get(&id).map(|local| &local.about).or(self.abouts.get(&id))?;
        Some(about.status(id, &self.tunnel.session_view(id)?))
    }

    fn state(&self) -> TunnelState {
        if self.closing.is_some() {
            TunnelState::Closing
        } else if self.tunnel.is_attached() {
            let is_doubted = self.tunnel.suspicion().is_some();
            if is_doubted { TunnelState::Doubted } else { TunnelState::Attached }
        } else if self.carrier.is_some() {
            TunnelState::Attaching
        } else {
            TunnelState::Detached
        }
    }

    fn carrier_status(&self) -> Option<CarrierStatus> {
        let carrier = self.carrier.as_ref()?;
        let liveness = self.tunnel.liveness();
        let heartbeat = liveness.and_then(|(_, round_trip)| round_trip);
        let (round_trip, deviation) = match carrier.round_trip() {
            Some((round_trip, deviation)) => (Some(round_trip), Some(deviation)),
            None => (heartbeat, None),
        };
        Some(CarrierStatus {
            local: carrier.local().ok()?,
            peer: carrier.peer(),
            interface: None,
            joined: self.tunnel.joined_count(),
            round_trip,
            deviation,
            silent: liveness.map(|(heard, _)| self.now.since(heard)),
        })
    }

    /// The tunnel's state changed now.
    pub(super) fn note_change(&mut self) {
        self.changed_at = SystemTime::now();
    }

    /// Forgets what is known of sessions that the tunnel has no record of.
    pub(super) fn forget_ended(&mut self) {
        if !self.abouts.is_empty() {
            self.abouts.retain(|id, _| self.tunnel.has_session(*id));
        }
    }
}
