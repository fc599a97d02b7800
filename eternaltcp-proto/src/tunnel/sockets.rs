//! What the driver says for the local sockets.

use bytes::Bytes;

use super::{Event, OpenError, Tunnel};
use crate::id::SessionId;
use crate::limits::RESERVE;
use crate::packet::{Kind, READ_SIZE};
use crate::reason::Reset;
use crate::session::{Delivery, Opening, Session};
use crate::time::Time;

impl Tunnel {
    /// Opens a session. `target` is what the peer's driver gets: 1 to 512
    /// bytes. Data may follow at once.
    ///
    /// # Errors
    /// When the tunnel has no share left for it.
    pub fn open(&mut self, target: Bytes) -> Result<SessionId, OpenError> {
        if self.closing.is_some() {
            return Err(OpenError::Closed);
        }
        let (least, most) = Kind::Open.payload_range();
        if target.len() < least || target.len() > most {
            return Err(OpenError::BadTarget);
        }
        if !self.has_share() {
            return Err(OpenError::LimitReached);
        }
        let id = self.next_id.ok_or(OpenError::NumbersUsedUp)?;
        if !self.pool.admit() {
            return Err(OpenError::LimitReached);
        }
        self.next_id = id.successor();
        let mut session = Session::new(&self.config, self.send_limit(), Opening::Asked);
        session.send.opening = Some((Kind::Open, target));
        self.sessions.insert(id, session);
        self.stats.sessions += 1;
        self.list_opening(id);
        self.touch(id);
        Ok(id)
    }

    /// The target of a session that the peer opened and nobody has answered.
    #[must_use]
    pub fn offered_target(&self, id: SessionId) -> Option<&Bytes> {
        match &self.sessions.get(&id)?.opening {
            Opening::Offered(target) => Some(target),
            _ => None,
        }
    }

    /// The target of a session that the peer opened is connected. An application
    /// that has sent data already does not wait for it: the answer may then travel
    /// with the target's.
    pub fn accept(&mut self, now: Time, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Opening::Offered(_) = session.opening {
            session.opening = Opening::Established;
            session.send.opening = Some((Kind::Opened, Bytes::new()));
            let is_awaited = session.receive.packets.is_empty();
            self.touch(id);
            match self.attached_mut() {
                Some(attached) if !is_awaited => {
                    attached.delayed.openings.push(id);
                    attached.delayed.wait(now);
                }
                _ => self.activate(now, id),
            }
        }
    }

    /// Whether the session's target was ever connected: it stays so when the
    /// session is reset later, and tells that from a target that refused.
    #[must_use]
    pub fn is_established(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.opening == Opening::Established)
    }

    /// Whether something of the session has ever been sent.
    #[must_use]
    pub fn is_transmitted(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.send.is_untransmitted())
    }

    /// How many bytes may be read from the local socket now. Zero: leave them
    /// in the socket, whose own window then holds the application.
    #[must_use]
    pub fn capacity(&self, id: SessionId) -> usize {
        let Some(session) = self.sessions.get(&id) else { return 0 };
        let is_open = session.send.state == crate::send_queue::SendState::Open;
        if !is_open || matches!(session.opening, Opening::Offered(_)) {
            return 0;
        }
        let waiting = session.send.backlog.len();
        let own = usize::try_from(RESERVE).unwrap_or(usize::MAX);
        if self.backlogged >= self.config.tunnel_limit / 2 {
            own.saturating_sub(waiting)
        } else if waiting <= READ_SIZE / 2 {
            READ_SIZE
        } else {
            0
        }
    }

    /// Bytes of all sessions that were read and have no number yet.
    #[must_use]
    pub fn unnumbered(&self) -> u64 {
        self.backlogged
    }

    /// When a small packet of an interactive session was last sent: somebody
    /// types, or waits for an answer, and bulk in the same tunnel should leave
    /// the path's queues short.
    #[must_use]
    pub fn last_interactive(&self) -> Option<Time> {
        self.last_interactive
    }

    /// Bytes read from the local socket; at most [`Self::capacity`].
    pub fn write(&mut self, now: Time, id: SessionId, chunk: Bytes) {
        self.with_session(id, |session| session.send.write(chunk));
        self.activate(now, id);
    }

    /// The local socket's end of stream.
    pub fn finish(&mut self, now: Time, id: SessionId) {
        self.with_session(id, |session| session.send.finish());
        self.activate(now, id);
    }

    /// The local socket is gone: it was reset, could not be connected, or was
    /// never there. The peer learns it after the data before.
    pub fn reset(&mut self, now: Time, id: SessionId, reset: Reset) {
        let Some(session) = self.sessions.get(&id) else { return };
        if id.opener() == self.side && session.send.is_untransmitted() {
            self.forget(id);
            return;
        }
        self.with_session(id, |session| session.reset_by_driver(reset));
        if self.sessions.get(&id).is_some_and(|session| !session.send.backlog.is_empty()) {
            self.resetting.insert(id, now);
        }
        self.discard_ahead(now, id);
        self.activate(now, id);
        self.owe_ack(now, id);
        self.settle(id);
    }

    /// The session is ended from this side: both its ends are reset, or the
    /// local one alone if the peer never heard of it.
    pub fn kill(&mut self, now: Time, id: SessionId, reset: Reset) {
        let is_own = id.opener() == self.side;
        self.with_session(id, |session| {
            if is_own && session.send.is_untransmitted() {
                session.lose(reset);
            } else {
                session.fail(reset);
            }
        });
        self.discard_ahead(now, id);
        self.touch(id);
        self.activate(now, id);
        self.settle(id);
    }

    /// What is to be done with the local socket.
    #[must_use]
    pub fn delivery(&self, id: SessionId) -> Delivery<'_> {
        self.sessions.get(&id).map_or(Delivery::Nothing, Session::delivery)
    }

    /// All the bytes that the local socket may take now, in order.
    pub fn deliverable(&self, id: SessionId) -> impl Iterator<Item = &[u8]> {
        let receive = self.sessions.get(&id).map(|session| &session.receive);
        receive.into_iter().flat_map(|receive| {
            let offsets = std::iter::once(receive.offset).chain(std::iter::repeat(0));
            receive.packets.iter().zip(offsets).map(|(packet, offset)| &packet[offset..])
        })
    }

    /// Whether the local socket has taken a part of a packet.
    #[must_use]
    pub fn has_partial_delivery(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.receive.offset > 0)
    }

    /// A reset that is next for the local socket, or waits behind data that
    /// the socket does not take.
    #[must_use]
    pub fn pending_reset(&self, id: SessionId) -> Option<&Reset> {
        self.sessions.get(&id)?.pending_reset()
    }

    /// The local socket took `count` bytes of [`Self::deliverable`].
    pub fn delivered(&mut self, now: Time, id: SessionId, count: usize) {
        let most = self.config.session_limit_most;
        let changed = self.with_session(id, |session| {
            let used = session.receive.used;
            let finished = session.receive.deliver(count);
            session.untold += session.receive.used - used;
            let has_grown = session.receive.grow(most);
            (finished, session.receive.is_corrupt(), has_grown.then_some(session.receive.limit))
        });
        let Some((finished, corrupt, grown)) = changed else { return };
        self.widest = self.widest.max(grown.unwrap_or(0));
        self.stats.delivered_bytes += count as u64;
        self.owe_limit(id);
        if corrupt {
            self.fail_corrupt(now, id);
        } else if finished {
            self.owe_ack(now, id);
        }
    }

    /// Copies payload that waits since before the last call, so that it does not
    /// keep alive what came with it. Worth a call now and then, as every second.
    pub fn compact(&mut self) {
        if self.received > 0 {
            self.sessions.values_mut().for_each(|session| session.receive.compact());
        }
        if let Some(attached) = self.attached_mut() {
            attached.reorder.compact();
        }
    }

    /// The local socket's sending side was shut.
    pub fn delivered_end(&mut self, now: Time, id: SessionId) {
        self.deliver_ending(now, id);
    }

    /// The local socket was reset.
    pub fn delivered_reset(&mut self, now: Time, id: SessionId) {
        self.deliver_ending(now, id);
    }

    fn deliver_ending(&mut self, now: Time, id: SessionId) {
        self.with_session(id, |session| {
            if session.abort.take().is_none() {
                session.receive.deliver_ending();
            }
        });
        self.owe_ack(now, id);
        self.settle(id);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        while let Some(id) = self.touched.pop_front() {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.is_touched = false;
                return Some(Event::Touched(id));
            }
        }
        None
    }
}
