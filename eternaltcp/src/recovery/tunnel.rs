//! A tunnel that an earlier process has left.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::kept::{Kept, Recovered, RecoveredSession};
use eternaltcp_proto::{SendPhase, SessionId, Side};
use eternaltcp_sys::Inherited;
use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use super::ended::{CLOSING, DAMAGED, EndedTunnel};
use super::sockets;
use crate::report::counted;
use crate::store::TunnelStore;

/// A tunnel, and the sockets of its sessions.
#[derive(Debug)]
pub(crate) struct RecoveredTunnel {
    pub(crate) kept: Box<Kept<TunnelStore>>,
    pub(crate) recovered: Recovered,
    pub(crate) sockets: BTreeMap<SessionId, OwnedFd>,
    /// The driver's note about it.
    pub(crate) note: Bytes,
    /// The time for which it has been detached.
    pub(crate) detached_for: Duration,
}

impl RecoveredTunnel {
    /// Reads a tunnel from its store, and takes the sockets of its sessions.
    ///
    /// # Errors
    /// The tunnel cannot be continued. Its sockets are reset.
    pub(super) fn read(store: TunnelStore, inherited: &mut Inherited) -> Result<Self, EndedTunnel> {
        store.set_reading(true);
        let now = boot_time();
        let note = store.found_note();
        let since = store.detached_since().unwrap_or(now);
        let Some((kept, recovered)) = Kept::recover(store) else {
            let note = note.unwrap_or_default();
            return Err(EndedTunnel { note, why: DAMAGED, ..Default::default() });
        };
        let mut tunnel = Self {
            kept: Box::new(kept),
            recovered,
            sockets: BTreeMap::new(),
            note: note.clone().unwrap_or_default(),
            detached_for: now.saturating_sub(since),
        };
        tunnel.take_sockets(inherited);
        tunnel.judge_suspects();
        tunnel.kept.store().set_reading(false);
        let is_damaged = note.is_none();
        if is_damaged {
            let sessions = counted(tunnel.recovered.sessions.len(), "session", "sessions");
            warn!("the stored state of a tunnel is damaged: it is ended, with {sessions}");
        } else if tunnel.recovered.tunnel.closing.is_none() {
            return Ok(tunnel);
        }
        let ended = tunnel.ended(if is_damaged { DAMAGED } else { CLOSING });
        tunnel.end();
        Err(ended)
    }

    fn take_sockets(&mut self, inherited: &mut Inherited) {
        for session in &self.recovered.sessions {
            let id = session.detached.state.id;
            let socket =
                session.socket.and_then(|it| sockets::take(inherited, it.descriptor, it.cookie));
            self.sockets.extend(socket.map(|socket| (id, socket)));
        }
    }

    /// Records which sockets were reset, although the dead process may have taken the error. This
    /// comes before any of them is used.
    pub(crate) fn judge_suspects(&mut self) {
        for session in self.recovered.sessions.iter().filter(|session| session.is_suspect) {
            let id = session.detached.state.id;
            let was_reset = self.sockets.get(&id).is_some_and(|socket| was_reset(socket, session));
            self.kept.judge(id, was_reset);
        }
    }

    /// Returns the facts about the tunnel for the record of its end.
    pub(crate) fn ended(&self, why: &'static str) -> EndedTunnel {
        let Recovered { tunnel, sessions, .. } = &self.recovered;
        let (note, sessions) = (self.note.clone(), Some(sessions.len()));
        EndedTunnel { id: tunnel.id, note, sessions, why }
    }

    /// Returns the side of the tunnel.
    pub(super) fn side(&self) -> Side {
        self.recovered.tunnel.side
    }

    /// Ends the tunnel: its records are cleared before its sockets are closed.
    pub(crate) fn end(self) {
        self.kept.into_store().end();
        drop(self.sockets);
    }
}

/// Returns whether the socket of a session was reset, although it now reports an end of the stream.
fn was_reset(socket: &OwnedFd, session: &RecoveredSession) -> bool {
    let send = &session.detached.state.send;
    // After the end was received, reading is over, and a write fails again.
    send.phase == SendPhase::Open && sockets::was_reset(socket, send.end)
}

/// Returns the time since the machine was started, including its sleep.
pub(crate) fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}
