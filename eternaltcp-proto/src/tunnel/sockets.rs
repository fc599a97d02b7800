//! The methods for local sockets, called by the driver.

use bytes::Bytes;

use super::{Event, SessionOpenError, Tunnel};
use crate::id::SessionId;
use crate::packet::Kind;
use crate::reason::Reset;
use crate::session::{Delivery, Opening, TunnelSession};
use crate::time::Time;

impl Tunnel {
    /// Opens a session. The peer's driver gets `target`: 1 to 512 bytes. Data may follow at once.
    ///
    /// # Errors
    /// The tunnel has no share left for it.
    pub fn open(&mut self, target: Bytes) -> Result<SessionId, SessionOpenError> {
        if self.closing.is_some() {
            return Err(SessionOpenError::Closed);
        }
        let (least, most) = Kind::Open.payload_range();
        if target.len() < least || target.len() > most {
            return Err(SessionOpenError::BadTarget);
        }
        if !self.has_share() {
            return Err(SessionOpenError::LimitReached);
        }
        let id = self.sessions.open(&self.config, self.send_limit(), target)?;
        self.stats.sessions += 1;
        self.list_opening(id);
        self.sessions.mark_dirty(id);
        Ok(id)
    }

    /// Returns the target of a session that the peer opened and that is not answered.
    #[must_use]
    pub fn offered_target(&self, id: SessionId) -> Option<&Bytes> {
        match self.sessions.get(id)?.opening() {
            Opening::Offered(target) => Some(target),
            _ => None,
        }
    }

    /// Records that the target of a session that the peer opened is connected. If the application
    /// has already sent data, it does not wait for this answer, which may then travel with the
    /// target's data.
    pub fn accept(&mut self, now: Time, id: SessionId) {
        if self.sessions.with(id, TunnelSession::accept) != Some(true) {
            return;
        }
        let is_awaited = self.sessions.get(id).is_some_and(|session| session.receive().is_empty());
        self.sessions.mark_dirty(id);
        match self.carriers.outbox_mut() {
            Some(outbox) if !is_awaited => outbox.delay_opening(now, id),
            _ => self.activate(now, id),
        }
    }

    /// Returns whether the session's target was ever connected. This does not change when the
    /// session is reset later, and distinguishes that from a target that refused.
    #[must_use]
    pub fn is_established(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| *session.opening() == Opening::Established)
    }

    /// Returns whether a packet of the session has ever been sent.
    #[must_use]
    pub fn is_transmitted(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| !session.send().is_untransmitted())
    }

    /// Returns how many bytes may be read from the local socket now. If zero, leave them in the
    /// socket: its own window then stops the application.
    #[must_use]
    pub fn capacity(&self, id: SessionId) -> usize {
        self.sessions.capacity(id, self.config.tunnel_limit)
    }

    /// Returns the bytes of all sessions that were read and have no number yet.
    #[must_use]
    pub fn unnumbered(&self) -> u64 {
        self.sessions.backlogged()
    }

    /// Returns the time at which a small packet of an interactive session was last sent: somebody
    /// types, or waits for an answer, and bulk in the same tunnel should keep the path's queues
    /// short.
    #[must_use]
    pub fn last_interactive(&self) -> Option<Time> {
        self.sessions.last_interactive()
    }

    /// Adds bytes that were read from the local socket, at most [`Self::capacity`].
    pub fn write(&mut self, now: Time, id: SessionId, chunk: Bytes) {
        self.sessions.with(id, |session| session.send_mut().write(chunk));
        self.activate(now, id);
    }

    /// Records the local socket's end of stream.
    pub fn finish(&mut self, now: Time, id: SessionId) {
        self.sessions.with(id, |session| session.send_mut().finish());
        self.activate(now, id);
    }

    /// Resets the session because the local socket is gone: it was reset, could not be connected,
    /// or never existed. The peer is told after the data before it.
    pub fn reset(&mut self, now: Time, id: SessionId, reset: Reset) {
        let Some(session) = self.sessions.get(id) else { return };
        if id.opener() == self.identity.side && session.send().is_untransmitted() {
            self.retire(id);
            return;
        }
        self.sessions.with(id, |session| session.reset_by_driver(reset));
        if self.sessions.get(id).is_some_and(|session| session.send().backlogged() > 0) {
            self.sessions.hold_up_reset(id, now);
            self.end_quiet(now);
        }
        self.discard_ahead(now, id);
        self.activate(now, id);
        self.owe_ack(now, id);
        self.retire_if_over(id);
    }

    /// Ends the session from this side: both its ends are reset, or only the local one if the peer
    /// was never told of it.
    pub fn kill(&mut self, now: Time, id: SessionId, reset: Reset) {
        let is_own = id.opener() == self.identity.side;
        self.sessions.with(id, |session| {
            if is_own && session.send().is_untransmitted() {
                session.lose(reset);
            } else {
                session.fail(reset);
            }
        });
        self.discard_ahead(now, id);
        self.sessions.mark_dirty(id);
        self.activate(now, id);
        self.retire_if_over(id);
    }

    /// Returns what to do with the local socket.
    #[must_use]
    pub fn delivery(&self, id: SessionId) -> Delivery<'_> {
        self.sessions.get(id).map_or(Delivery::Nothing, TunnelSession::delivery)
    }

    /// Returns all the bytes that the local socket may take now, in order.
    pub fn deliverable(&self, id: SessionId) -> impl Iterator<Item = &[u8]> {
        self.sessions.get(id).into_iter().flat_map(|session| session.receive().deliverable())
    }

    /// Returns whether the local socket has taken a part of a packet.
    #[must_use]
    pub fn has_partial_delivery(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| session.receive().is_partial())
    }

    /// Returns a reset that is next for the local socket, or waits behind data that the socket does
    /// not take.
    #[must_use]
    pub fn pending_reset(&self, id: SessionId) -> Option<&Reset> {
        self.sessions.get(id)?.pending_reset()
    }

    /// Records that the local socket took `count` bytes of [`Self::deliverable`].
    pub fn delivered(&mut self, now: Time, id: SessionId, count: usize) {
        let max_limit = self.config.max_session_limit;
        let Some(delivered) = self.sessions.deliver(id, count, max_limit) else { return };
        self.stats.delivered_bytes += count as u64;
        self.owe_limit(id);
        if delivered.is_corrupt {
            self.fail_corrupt(now, id);
        } else if delivered.is_finished {
            self.owe_ack(now, id);
        }
    }

    /// Copies payload that has waited since before the last call, so that it does not keep a larger
    /// buffer alive. Call it from time to time, for example every second.
    pub fn compact(&mut self) {
        self.sessions.compact();
        self.carriers.reorder_mut().compact();
    }

    /// Records that the last result of [`Self::delivery`] other than data was carried out: the
    /// local socket's sending side was shut down, or the socket was reset.
    pub fn delivered_ending(&mut self, now: Time, id: SessionId) {
        self.sessions.with(id, TunnelSession::deliver_ending);
        self.owe_ack(now, id);
        self.retire_if_over(id);
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        self.sessions.poll_dirty().map(Event::Dirty)
    }

    /// Returns a session whose exported state may have changed since this last returned its id, or
    /// that has no record any more. Changes are collected from the first call on, which begins with
    /// all existing sessions.
    ///
    /// Drain this after each input, and update every record of these sessions elsewhere before you
    /// send anything.
    pub(crate) fn poll_changed(&mut self) -> Option<SessionId> {
        self.sessions.poll_changed()
    }
}
