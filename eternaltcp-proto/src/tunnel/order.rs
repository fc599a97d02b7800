//! The order of a session's packets: by their numbers, whichever carrier brings them.

use bytes::Bytes;

use super::Tunnel;
use super::input::no_such;
use crate::error::Violation;
use crate::id::SessionId;
use crate::packet::{Header, Kind};
use crate::reason::Reset;
use crate::seq::Seq;
use crate::time::Time;

/// The position of a numbered packet.
pub(super) enum Position {
    /// It is the next one.
    Next,
    /// Packets before it are missing, and another carrier will bring them.
    Ahead,
}

impl Tunnel {
    /// Returns the packet's position. The number must be the next one, with two exceptions: the
    /// reset of a peer that we have reset ourselves may skip what the peer dropped, and while
    /// carriers are joined the missing packets may be on another one.
    pub(super) fn place(&self, id: SessionId, header: &Header) -> Result<Position, Violation> {
        let Some(session) = self.sessions.get(id) else { return Err(no_such(header)) };
        let expected = session.receive().next();
        let is_later = header.seq.distance_from(expected) < 1 << 31;
        let may_skip = is_later && header.kind == Kind::Reset && session.receive().is_discarding();
        let is_next = header.seq == expected || may_skip;
        let has_joined = self.joined_count() > 0;
        let is_ahead = is_later && has_joined && header.kind.may_be_ahead();
        if !(is_next || is_ahead) {
            let (expected, got) = (expected.get(), header.seq.get());
            return Err(Violation::Number { session: id, expected, got });
        }
        let is_first = session.awaited_opening();
        if is_first.is_some_and(|kind| header.kind != kind && header.kind != Kind::Reset) {
            return Err(Violation::OutOfPlace(header.kind));
        }
        Ok(if is_next { Position::Next } else { Position::Ahead })
    }

    /// Handles data of a joined carrier, where only packet numbers give an order.
    pub(super) fn handle_beside(
        &mut self,
        now: Time,
        id: SessionId,
        header: &Header,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let Some(session) = self.sessions.get(id) else {
            return if self.sessions.was_known(id) { Ok(()) } else { Err(no_such(header)) };
        };
        if session.receive().is_reset() {
            // Its reset arrived first, and skipped data that nobody wants any more.
            return Ok(());
        }
        let place = self.place(id, header)?;
        self.take_at(now, id, place, (header, payload))
    }

    /// Takes a packet, or keeps it until its turn.
    pub(super) fn take_at(
        &mut self,
        now: Time,
        id: SessionId,
        place: Position,
        (header, payload): (&Header, Bytes),
    ) -> Result<(), Violation> {
        match place {
            Position::Next => self.take(now, id, header, payload),
            Position::Ahead => self.put_in_reorder_buffer(id, header, payload),
        }
    }

    /// Takes a session's next packet, and those that waited for it.
    fn take(
        &mut self,
        now: Time,
        id: SessionId,
        header: &Header,
        payload: Bytes,
    ) -> Result<(), Violation> {
        self.handle_next(now, id, header, payload)?;
        while let Some((header, payload)) = self.next_reordered(id) {
            self.handle_next(now, id, &header, payload)?;
        }
        self.owe_ack(now, id);
        self.retire_if_over(id);
        Ok(())
    }

    fn handle_next(
        &mut self,
        now: Time,
        id: SessionId,
        header: &Header,
        payload: Bytes,
    ) -> Result<(), Violation> {
        match header.kind {
            Kind::Data => self.handle_data(now, id, payload),
            Kind::Opened => self.handle_opened(id, header),
            Kind::End => self.handle_end(now, id, &payload),
            Kind::Reset => {
                let reset = Reset::decode(&payload).map_err(Violation::payload(Kind::Reset))?;
                let is_first = self.handle_reset(now, id, header.seq, reset);
                if is_first { Ok(()) } else { Err(Violation::OutOfPlace(Kind::Reset)) }
            }
            kind => Err(Violation::OutOfPlace(kind)),
        }
    }

    /// Returns the session's next packet, if it is buffered.
    fn next_reordered(&mut self, id: SessionId) -> Option<(Header, Bytes)> {
        let seq = self.sessions.get(id)?.receive().next();
        let (kind, payload) = self.carriers.reorder_mut().take(id, seq)?;
        let length = u32::try_from(payload.len()).ok()?;
        Some((Header { kind, session: id.get(), seq, ack: Seq::default(), length }, payload))
    }

    fn put_in_reorder_buffer(
        &mut self,
        id: SessionId,
        header: &Header,
        payload: Bytes,
    ) -> Result<(), Violation> {
        if self.sessions.get(id).is_some_and(|session| session.receive().is_discarding()) {
            // The reset that follows skips the missing packets.
            return Ok(());
        }
        if header.kind == Kind::Reset {
            Reset::decode(&payload).map_err(Violation::payload(Kind::Reset))?;
        }
        let room = self.room(id);
        self.carriers.reorder_mut().put(id, header.seq, (header.kind, payload), room)?;
        self.stats.reordered += 1;
        Ok(())
    }

    /// Drops packets that are buffered of a session that this side has reset. A reset among them
    /// is taken: its sender sends no other, and it skips the missing packets.
    pub(super) fn discard_ahead(&mut self, now: Time, id: SessionId) {
        let is_discarding = self.sessions.get(id).is_some_and(|it| it.receive().is_discarding());
        if !is_discarding {
            return;
        }
        let Some((seq, payload)) = self.carriers.reorder_mut().retire(id) else { return };
        // It was checked when it was buffered.
        if let Ok(reset) = Reset::decode(&payload) {
            self.handle_reset(now, id, seq, reset);
            self.owe_ack(now, id);
        }
    }

    /// Returns how much data of a session may cost now, by the limits that the peer was told.
    pub(super) fn room(&self, id: SessionId) -> u64 {
        let reorder = self.carriers.reorder();
        let (aside, of_session) = (reorder.held(), reorder.held_of(id));
        let of_tunnel = self.config.tunnel_limit.saturating_sub(self.sessions.received() + aside);
        let session = self.sessions.get(id).map_or(0, |session| {
            let receive = session.receive();
            receive.limit().saturating_sub(receive.held() + of_session)
        });
        session.min(of_tunnel)
    }
}
