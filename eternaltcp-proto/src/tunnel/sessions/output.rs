//! The packets that sessions have to send, and their order.

use std::time::Duration;

use super::Sessions;
use crate::id::SessionId;
use crate::limits::{RESERVE, cost};
use crate::numbers::Numbers;
use crate::packet::{Kind, READ_SIZE};
use crate::scheduler::Lane;
use crate::send_queue::Outgoing;
use crate::seq::Seq;
use crate::session::{Listing, Opening, TunnelSession};
use crate::time::Time;
use crate::tunnel::route::Route;

/// Up to this size, one segment, a packet of an interactive session is a keystroke or an answer to
/// one.
const SMALL: usize = 1400;

/// While somebody types, and for this long afterwards, the attached carrier is left to keystrokes
/// if other carriers carry the bulk.
const TYPING: Duration = Duration::from_secs(3);

impl Sessions {
    /// Returns how many bytes may be read from a session's local socket now.
    pub(in crate::tunnel) fn capacity(&self, id: SessionId, tunnel_limit: u64) -> usize {
        let Some(session) = self.get(id) else { return 0 };
        if !session.send().is_open() || matches!(session.opening(), Opening::Offered(_)) {
            return 0;
        }
        let waiting = usize::try_from(session.send().backlogged()).unwrap_or(usize::MAX);
        let own = usize::try_from(RESERVE).unwrap_or(usize::MAX);
        if self.backlogged() >= tunnel_limit / 2 {
            own.saturating_sub(waiting)
        } else if waiting <= READ_SIZE / 2 {
            READ_SIZE
        } else {
            0
        }
    }

    /// Queues a session for its turn, if it has something due.
    pub(in crate::tunnel) fn activate(&mut self, now: Time, id: SessionId) {
        if let Some(session) = self.table.get_mut(&id) {
            self.scheduler.enqueue(id, session.enter_lane(now));
        }
    }

    /// Queues all sessions that found no room in the peer's pool.
    pub(in crate::tunnel) fn activate_blocked(&mut self, now: Time) {
        for id in self.scheduler.take_blocked() {
            self.activate(now, id);
        }
    }

    /// Returns whether no session waits for its turn.
    pub(in crate::tunnel) fn is_quiet(&self) -> bool {
        self.scheduler.is_empty()
    }

    /// Returns the time at which a small packet of an interactive session was last sent.
    pub(in crate::tunnel) fn last_interactive(&self) -> Option<Time> {
        self.scheduler.last_interactive()
    }

    /// Returns whether somebody types now.
    pub(in crate::tunnel) fn is_typing(&self, now: Time) -> bool {
        self.last_interactive().is_some_and(|at| now.since(at) < TYPING)
    }

    /// Returns the session whose turn it is on this route.
    fn dequeue(&mut self, route: Route) -> Option<SessionId> {
        let table = &self.table;
        let may_join = |id| table.get(&id).is_some_and(|it| it.send().may_go_beside());
        match route {
            Route::Attached => self.scheduler.dequeue(),
            Route::AttachedWithoutBulk => self.scheduler.dequeue_with(|id| !may_join(id)),
            Route::Joined => self.scheduler.dequeue_bulk(may_join),
        }
    }

    /// Returns the next packet of the session whose turn it is.
    pub(in crate::tunnel) fn poll_packet(
        &mut self,
        now: Time,
        route: Route,
    ) -> Option<(SessionId, Outgoing)> {
        while let Some(id) = self.dequeue(route) {
            let Some(session) = self.table.get_mut(&id) else { continue };
            let lane = session.leave_lane();
            let ceiling = self.shares.pool().ceiling(session.send().charged());
            let Some(packet) =
                self.with(id, |session| session.send_mut().next_packet(ceiling)).flatten()
            else {
                self.block(id, ceiling);
                continue;
            };
            self.scheduler.charge(id, packet.payload.len());
            let is_small = packet.kind == Kind::Data && packet.payload.len() <= SMALL;
            if is_small && lane == Lane::Interactive {
                self.scheduler.note_interactive(now);
            }
            return Some((id, packet));
        }
        None
    }

    /// Records a session whose data found no room. The pool is the cause, unless the session's own
    /// limit is smaller.
    fn block(&mut self, id: SessionId, ceiling: u64) {
        let send = self.get(id).map(TunnelSession::send);
        if send.is_some_and(|send| send.has_due() && ceiling < send.limit()) {
            self.scheduler.block(id);
        }
    }

    /// Returns the packet that opens a session, or answers its opening.
    pub(in crate::tunnel) fn poll_opening(&mut self, id: SessionId) -> Option<Outgoing> {
        self.with(id, |session| session.send_mut().next_packet(0))?
    }

    /// Returns the next packet of a session for an attach, if it is a data packet not larger than
    /// `room`.
    pub(in crate::tunnel) fn poll_early(&mut self, id: SessionId, room: usize) -> Option<Outgoing> {
        let held = self.get(id)?.send().held();
        let ceiling = self.shares.pool().ceiling(held).min(held + cost(room));
        self.with(id, |session| {
            let fits = session.send().next_data().is_some_and(|size| size <= room);
            fits.then(|| session.send_mut().next_packet(ceiling)).flatten()
        })?
    }

    /// Handles a packet of a session that is sent. Returns the acknowledgement that goes with it
    /// where packets are in order.
    pub(in crate::tunnel) fn handle_sent(
        &mut self,
        now: Time,
        id: SessionId,
        bytes: usize,
        route: Route,
    ) -> Option<Seq> {
        self.resets.note_progress(id, now);
        let session = self.table.get_mut(&id)?;
        session.handle_sent(now, bytes);
        // On a joined carrier, a later acknowledgement could overtake this one.
        Some(if route == Route::Joined { Seq::default() } else { session.advertise_ack() })
    }

    /// Lists an acknowledgement, if one is owed. Returns the list to which to add the session.
    pub(in crate::tunnel) fn list_ack(&mut self, id: SessionId) -> Listing {
        self.table.get_mut(&id).map_or(Listing::None, |session| session.list_ack())
    }

    /// Removes a session from the list of acknowledgements. Returns the one to send.
    pub(in crate::tunnel) fn take_listed_ack(&mut self, id: SessionId) -> Option<Seq> {
        self.table.get_mut(&id)?.take_listed_ack()
    }

    /// Lists a limit, if it has changed since the peer was told. Returns whether to add the session
    /// to the list.
    pub(in crate::tunnel) fn list_limit(&mut self, id: SessionId) -> bool {
        self.table.get_mut(&id).is_some_and(|session| session.list_limit())
    }

    /// Removes a session from the list of limits. Returns the limit and the acknowledgement to
    /// send.
    pub(in crate::tunnel) fn take_listed_limit(&mut self, id: SessionId) -> Option<(u64, Seq)> {
        self.table.get_mut(&id)?.take_listed_limit()
    }

    /// Returns the numbers of the sessions that an attach lists.
    pub(in crate::tunnel) fn advertise_numbers(
        &mut self,
        is_listed: impl Fn(SessionId, &TunnelSession) -> bool,
    ) -> Vec<Numbers> {
        let listed = self.table.iter_mut().filter(|(id, session)| is_listed(**id, session));
        listed.map(|(id, session)| session.advertise_numbers(*id)).collect()
    }
}
