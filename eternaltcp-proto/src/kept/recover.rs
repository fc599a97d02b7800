//! Recovery of a tunnel from the contents of its store.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::store::{Call, Contents, Counts, PacketEntry, Piece, SessionRecord, Slot, SocketId};
use super::{Kept, Mirror, Noted, PutSession, Store};
use crate::config::Config;
use crate::id::SessionId;
use crate::packet::Kind;
use crate::reason::{Cause, Reset};
use crate::session::TunnelSession;
use crate::state::{
    Boundary, DetachedSession, OpeningState, ReceivePhase, RestoreError, SendPhase, SendingState,
    SessionState, TunnelState,
};
use crate::tunnel::Tunnel;

/// A tunnel as recorded in its store.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The tunnel.
    pub tunnel: TunnelState,
    /// Its sessions, in order.
    pub sessions: Vec<RecoveredSession>,
}

/// A session as the store has it.
#[derive(Clone, Debug)]
pub struct RecoveredSession {
    /// The tunnel's part.
    pub detached: DetachedSession,
    /// Its local socket, if it has one.
    pub socket: Option<SocketId>,
    /// Its local socket may have returned an error that was not recorded. If reads return the end of
    /// stream although no FIN has arrived, the socket was reset. [`Kept::judge`] records the answer,
    /// and [`Kept::has_failed`] returns it.
    pub is_suspect: bool,
    /// Its record is inconsistent: the session is reset.
    pub is_damaged: bool,
}

impl<S: Store> Kept<S> {
    /// Reads a tunnel's state from its store, and continues to mirror it there. Returns `None` if the
    /// store has no tunnel. If the program dies in between, the next one repeats all of it.
    #[must_use]
    pub fn recover(mut store: S) -> Option<(Self, Recovered)> {
        let contents = store.contents();
        let recovered = recover(contents.clone())?;
        let mut kept = Self::new(store);
        kept.count_last_call(contents.slot.as_ref(), &contents.counts);
        kept.tunnel = Some(recovered.tunnel.clone());
        for session in &recovered.sessions {
            let DetachedSession { state, .. } = &session.detached;
            let counts = full_counts(contents.slot.as_ref(), &contents.counts, state.id);
            let SendingState { numbering, base, next, .. } = state.send;
            let next = if session.is_damaged { base } else { next };
            let noted = Noted { numbering, base, next };
            // The next commit stores what differs from the record.
            let put = contents.sessions.get(&state.id);
            let put = put.map(|record| PutSession::new(record.state.clone(), record.socket));
            let mirror = Mirror { socket: session.socket, counts, put, noted };
            kept.sessions.insert(state.id, Box::new(mirror));
        }
        kept.clear_stale(&contents);
        Some((kept, recovered))
    }

    /// Describes the difference between the tunnel and what a recovery would return now. A check for
    /// tests, to be made after a commit.
    #[must_use]
    pub fn find_difference(&mut self, tunnel: &Tunnel) -> Option<String> {
        let Some(Recovered { tunnel: state, sessions }) = recover(self.store.contents()) else {
            return Some("nothing is kept".to_owned());
        };
        // Only data packets need a length: the length of others follows from their kind.
        let boundary = |it: &Boundary| match it.kind {
            Kind::Data => *it,
            _ => Boundary { length: 0, ..*it },
        };
        let flat = |it: &DetachedSession| {
            let boundaries: Vec<_> = it.boundaries.iter().map(boundary).collect();
            (it.state.clone(), boundaries, it.payload.concat(), it.surplus)
        };
        let (is_state, is_sessions) = tunnel.export();
        if state != is_state {
            return Some(format!("{state:?} is kept of {is_state:?}"));
        }
        let kept: Vec<_> = sessions.iter().map(|it| flat(&it.detached)).collect();
        let is: Vec<_> = is_sessions.iter().map(flat).collect();
        let short = |all: &[(SessionState, Vec<Boundary>, Vec<u8>, u64)]| {
            let one = |it: &(SessionState, Vec<Boundary>, Vec<u8>, u64)| {
                format!("{:?}, {:?}, {} bytes, {} ahead", it.0, it.1, it.2.len(), it.3)
            };
            all.iter().map(one).collect::<Vec<_>>()
        };
        (kept != is).then(|| format!("{:#?} is kept of {:#?}", short(&kept), short(&is)))
    }

    /// Creates the recovered tunnel, and mirrors it from then on.
    ///
    /// # Errors
    /// The sessions do not fit the tunnel.
    pub fn restore(
        &mut self,
        config: Config,
        recovered: &Recovered,
    ) -> Result<Tunnel, RestoreError> {
        let sessions = recovered.sessions.iter().map(|session| session.detached.clone());
        let mut tunnel = Tunnel::restore(config, recovered.tunnel.clone(), sessions)?;
        // The tunnel reports its changes after the first call.
        let _ = self.commit(&mut tunnel);
        Ok(tunnel)
    }

    /// Records whether the local socket of a [suspect](RecoveredSession::is_suspect) session was
    /// reset. Call it before any local socket is used.
    pub fn judge(&mut self, id: SessionId, was_reset: bool) {
        if was_reset {
            self.mirror(id).counts.has_failed = true;
            self.store.put_socket_error(id);
        }
        self.store.clear_slot();
    }

    /// Adds the result of the system call that was in progress to the counts.
    fn count_last_call(&mut self, slot: Option<&Slot>, counts: &BTreeMap<SessionId, Counts>) {
        let Some(slot) = slot.filter(|slot| slot.count.is_some()) else { return };
        let id = slot.session;
        let Counts { consumed, written, .. } = full_counts(Some(slot), counts, id);
        match slot.call {
            Call::Read(before) if is_unnoted(slot, counts) => {
                if has_landed(slot) {
                    self.store.put_piece(id, before, &slot.landed);
                }
                self.store.put_consumed(id, consumed);
            }
            Call::Write(_) if is_unnoted(slot, counts) => self.store.put_written(id, written),
            _ => {}
        }
        self.store.clear_slot();
    }

    /// Clears the entries that an interrupted commit would have cleared.
    fn clear_stale(&mut self, contents: &Contents) {
        for packet in &contents.packets {
            let noted = self.sessions.get(&packet.session).map(|mirror| mirror.noted);
            if !noted.is_some_and(|noted| noted.has(packet)) {
                self.store.clear_packet(packet.session, packet.numbering, packet.seq);
            }
        }
        let owners = contents.pieces.iter().map(|piece| piece.session);
        let mut gone: Vec<_> = owners.chain(contents.counts.keys().copied()).collect();
        gone.sort_unstable();
        gone.dedup();
        for id in gone {
            match self.sessions.get(&id).and_then(|mirror| mirror.put.as_ref()) {
                Some(put) => self.store.free_pieces(id, put.offset()),
                None => self.store.free_session(id),
            }
        }
    }
}

impl Noted {
    fn has(&self, packet: &PacketEntry) -> bool {
        let count = self.next.distance_from(self.base);
        packet.numbering == self.numbering && packet.seq.distance_from(self.base) < count
    }
}

/// Returns whether a call has moved bytes that the counts do not include yet.
fn is_unnoted(slot: &Slot, counts: &BTreeMap<SessionId, Counts>) -> bool {
    let counts = counts.get(&slot.session).copied().unwrap_or_default();
    slot.count.is_some()
        && match slot.call {
            Call::Read(before) => before == counts.consumed,
            Call::Write(before) => before == counts.written,
        }
}

/// Returns whether the bytes that a read took from its socket are stored. If not, the stream has a
/// gap.
fn has_landed(slot: &Slot) -> bool {
    slot.count.is_some_and(|count| u32::try_from(slot.landed.len()) == Ok(count))
}

/// Returns how many bytes were read from and written to a session's local socket, including the call
/// that was in progress.
fn full_counts(slot: Option<&Slot>, counts: &BTreeMap<SessionId, Counts>, id: SessionId) -> Counts {
    let mut full = counts.get(&id).copied().unwrap_or_default();
    if let Some(slot) = slot.filter(|slot| slot.session == id && is_unnoted(slot, counts))
        && let Some(count) = slot.count
    {
        match slot.call {
            Call::Read(before) => full.consumed = before.saturating_add(count.into()),
            Call::Write(before) => full.written = before.saturating_add(count.into()),
        }
    }
    full
}

/// Prepares the stored state of a tunnel for its restoration. Only sessions whose stored state is
/// incomplete are reset.
fn recover(contents: Contents) -> Option<Recovered> {
    let Contents { tunnel, sessions, packets, mut pieces, counts, slot } = contents;
    if let Some(slot) = slot.as_ref().filter(|slot| is_unnoted(slot, &counts) && has_landed(slot))
        && let Call::Read(offset) = slot.call
    {
        let (session, payload) = (slot.session, slot.landed.clone());
        pieces.push(Piece { session, offset, payload });
    }
    let mut packets = group(packets, |packet| packet.session);
    let mut pieces = group(pieces, |piece| piece.session);
    let sessions = sessions.into_values().map(|record| {
        let id = record.state.id;
        let counts = full_counts(slot.as_ref(), &counts, id);
        let packets = packets.remove(&id).unwrap_or_default();
        let pieces = pieces.remove(&id).unwrap_or_default();
        // A write can return the error as well as a read.
        let is_under_way = slot.as_ref().filter(|slot| slot.count.is_none());
        let is_suspect = is_under_way.is_some_and(|slot| slot.session == id);
        recover_session(record, counts, &packets, pieces, is_suspect)
    });
    Some(Recovered { sessions: sessions.collect(), tunnel: tunnel? })
}

fn group<T>(all: Vec<T>, of: impl Fn(&T) -> SessionId) -> BTreeMap<SessionId, Vec<T>> {
    let mut groups: BTreeMap<_, Vec<T>> = BTreeMap::new();
    for one in all {
        groups.entry(of(&one)).or_default().push(one);
    }
    groups
}

fn recover_session(
    record: SessionRecord,
    counts: Counts,
    packets: &[PacketEntry],
    pieces: Vec<Piece>,
    is_suspect: bool,
) -> RecoveredSession {
    let SessionRecord { mut state, socket } = record;
    let is_sound = update(&mut state, counts);
    let boundaries = boundaries(&state.send, packets);
    let payload = payload(&state.send, pieces);
    let whole = match (is_sound, boundaries, payload) {
        (true, Some(boundaries), Some(payload)) => {
            let surplus = surplus(&state, counts);
            let whole = DetachedSession { state: state.clone(), boundaries, payload, surplus };
            TunnelSession::restore(0, whole.clone()).is_ok().then_some(whole)
        }
        _ => None,
    };
    let is_damaged = whole.is_none();
    let detached = whole.unwrap_or_else(|| fail(state));
    RecoveredSession { detached, socket, is_suspect, is_damaged }
}

/// Returns how many bytes the local socket took beyond the packets that the record counts. A socket
/// that is gone takes none.
fn surplus(state: &SessionState, counts: Counts) -> u64 {
    match state.receive.phase {
        ReceivePhase::Open | ReceivePhase::Finished => {
            counts.written.saturating_sub(state.receive.offset)
        }
        _ => 0,
    }
}

/// Applies the counts to a state, which is only as new as the last commit. Returns whether they fit.
fn update(state: &mut SessionState, counts: Counts) -> bool {
    if state.send.phase == SendPhase::Open {
        let is_sound = counts.consumed >= state.send.end;
        state.send.end = counts.consumed;
        return is_sound;
    }
    true
}

/// Returns the packets that the record counts. Data with a later number was never sent, and is
/// divided into packets again.
fn boundaries(send: &SendingState, packets: &[PacketEntry]) -> Option<Vec<Boundary>> {
    let count = send.next.distance_from(send.base) as usize;
    if count > packets.len() {
        return None;
    }
    let mut boundaries = vec![None; count];
    for packet in packets.iter().filter(|packet| packet.numbering == send.numbering) {
        let place = packet.seq.distance_from(send.base) as usize;
        if let Some(boundary) = boundaries.get_mut(place) {
            *boundary = Some(packet.boundary);
        }
    }
    boundaries.into_iter().collect()
}

/// Returns the bytes that the record counts, unless there is a gap.
fn payload(send: &SendingState, mut pieces: Vec<Piece>) -> Option<Vec<Bytes>> {
    pieces.sort_by_key(|piece| piece.offset);
    let (mut payload, mut place) = (Vec::new(), send.offset);
    for Piece { offset, payload: mut bytes, .. } in pieces {
        let end = offset.checked_add(bytes.len() as u64)?;
        if place >= send.end {
            break;
        }
        if end <= place {
            continue;
        }
        let known = usize::try_from(place.checked_sub(offset)?).ok()?;
        let wanted = usize::try_from(end.min(send.end) - offset).ok()?;
        bytes = bytes.slice(known..wanted);
        place += bytes.len() as u64;
        payload.push(bytes);
    }
    (place == send.end).then_some(payload)
}

/// Returns the state of a session whose bytes are lost: it sends a reset, with the number that the
/// peer expects next.
fn fail(mut state: SessionState) -> DetachedSession {
    let reset = Reset::with_detail(Cause::Corrupt, "what was kept of it is damaged");
    let SendingState { phase, numbering, opening, is_cut, .. } = &mut state.send;
    (*numbering, *opening, *is_cut) = (numbering.wrapping_add(1), None, true);
    let mut boundaries = Vec::new();
    match phase {
        SendPhase::Done | SendPhase::DoneReset => {}
        // The peer may have received the reset, and nothing may follow it. If not, the data before
        // it is missing.
        SendPhase::Reset(sent) => {
            *sent = reset.clone();
            boundaries.push(Boundary { kind: Kind::Reset, length: 0 });
        }
        phase => *phase = SendPhase::Resetting(reset.clone()),
    }
    let send = &mut state.send;
    send.end = 0;
    (send.offset, send.dropped) = (0, 0);
    send.base = send.next.minus(boundaries.len() as u32);
    let receive = &mut state.receive;
    receive.phase = match receive.phase {
        ReceivePhase::Open | ReceivePhase::Discarding => ReceivePhase::Discarding,
        ReceivePhase::Finished | ReceivePhase::DiscardedEnd => ReceivePhase::DiscardedEnd,
        ReceivePhase::DiscardedReset => ReceivePhase::DiscardedReset,
    };
    (receive.offset, receive.taken) = (0, 0);
    if matches!(state.opening, OpeningState::Offered(_)) {
        state.opening = OpeningState::Established;
    }
    state.abort.get_or_insert(reset);
    DetachedSession { state, boundaries, payload: Vec::new(), surplus: 0 }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
