//! The mirror of a tunnel in memory that outlives its program.
//!
//! The driver calls [`Kept::commit`] before it sends anything on a carrier. Everything that the peer
//! may learn is stored by then, so [`Kept::recover`] returns the tunnel that the peer knows. The
//! store is also told before and after each read and write of a local socket, so that it knows to
//! the byte how much was read and written.
//!
//! All records of a commit take effect together. Otherwise a tunnel's record with an old epoch could
//! stand beside the record of a session that was acknowledged later, and a delayed attach could
//! take that session back.

mod put;
mod recover;
mod store;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::SessionId;
use crate::seq::Seq;
use crate::state::{SendingState, SessionState, TunnelState};
use crate::tunnel::Tunnel;

use put::PutSession;
pub use recover::{Recovered, RecoveredSession};
pub use store::{Call, Contents, Counts, PacketEntry, Piece, SessionRecord, Slot, SocketId, Store};

/// Proof that the store has the state of the tunnel, so that packets may be sent.
#[derive(Debug)]
#[must_use]
pub struct Committed(());

impl Committed {
    /// Creates the proof for a driver without a store.
    pub const fn without_store() -> Self {
        Self(())
    }
}

/// A difference between the stored records and the tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stray {
    /// The tunnel's record.
    Tunnel,
    /// A session's record: the stored state, then the session's.
    Session(Box<[Option<SessionState>; 2]>),
}

/// A read from a local socket that is in progress.
#[derive(Debug)]
#[must_use]
pub struct Reading(SessionId);

/// A write to a local socket that is in progress.
#[derive(Debug)]
#[must_use]
pub struct Writing(SessionId);

/// Mirrors a tunnel in a store.
#[derive(Debug)]
pub struct Kept<S> {
    store: S,
    /// The tunnel's record that was last stored.
    tunnel: Option<TunnelState>,
    /// Boxed, because half of the room in a tree's nodes is empty.
    sessions: BTreeMap<SessionId, Box<Mirror>>,
    /// Entries to free after the current commit. Until then the previous records refer to them.
    released: Vec<Released>,
}

/// The record of a session in the store.
#[derive(Debug)]
struct Mirror {
    socket: Option<SocketId>,
    counts: Counts,
    /// The state that was last stored, with the socket at that time.
    put: Option<PutSession>,
    noted: Noted,
}

/// The packets of a session that have entries in the store.
#[derive(Clone, Copy, Debug)]
struct Noted {
    numbering: u32,
    base: Seq,
    next: Seq,
}

/// Entries of the store that no record refers to after the current commit.
#[derive(Debug)]
enum Released {
    Packets(SessionId, Noted),
    Pieces(SessionId, u64),
    Session(SessionId),
}

impl<S: Store> Kept<S> {
    /// Creates the mirror of a tunnel that the store does not contain yet.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store, tunnel: None, sessions: BTreeMap::new(), released: Vec::new() }
    }

    /// Returns the store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Returns the store, for the code that makes the system calls.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Returns the store, for the code that clears it.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Stores all changes of the tunnel. Call it before anything is sent on a carrier.
    pub fn commit(&mut self, tunnel: &mut Tunnel) -> Committed {
        self.commit_after(tunnel, false)
    }

    fn commit_after(&mut self, tunnel: &mut Tunnel, mut is_changed: bool) -> Committed {
        while let Some(id) = tunnel.poll_changed() {
            is_changed |= self.put_session(tunnel, id);
        }
        if self.put_tunnel(tunnel) || is_changed {
            self.store.commit_done();
            self.free_released();
        }
        Committed(())
    }

    /// Returns a record that differs from the tunnel or is missing. A check for tests, to be made
    /// after a commit.
    #[must_use]
    pub fn find_stray(&self, tunnel: &Tunnel) -> Option<Stray> {
        if self.tunnel != Some(tunnel.state()) {
            return Some(Stray::Tunnel);
        }
        let put = |id| Some(self.sessions.get(&id)?.put.as_ref()?.state(id));
        let ids = tunnel.session_ids().chain(self.sessions.keys().copied());
        let mut states = ids.map(|id| [put(id), tunnel.session_state(id)]);
        states.find(|[put, is]| put != is).map(|both| Stray::Session(Box::new(both)))
    }

    /// Records the local socket of a session, which was neither read nor written yet. This is
    /// committed before the socket is used: otherwise a recovery could connect a second socket, which
    /// would get the same bytes again.
    pub fn adopt(&mut self, tunnel: &mut Tunnel, id: SessionId, socket: SocketId) -> Committed {
        self.set_socket(tunnel, id, Some(socket))
    }

    /// Records that a session's local socket is about to be closed; its `SO_LINGER` is set already. No
    /// record may name a closed descriptor, and the tunnel must know what the application was told,
    /// because it cannot be told again.
    pub fn release(&mut self, tunnel: &mut Tunnel, id: SessionId) -> Committed {
        self.set_socket(tunnel, id, None)
    }

    fn set_socket(
        &mut self,
        tunnel: &mut Tunnel,
        id: SessionId,
        socket: Option<SocketId>,
    ) -> Committed {
        if tunnel.has_session(id) {
            self.mirror(id).socket = socket;
        }
        let is_changed = self.put_session(tunnel, id);
        self.commit_after(tunnel, is_changed)
    }

    /// Records that a session's local socket is about to be read.
    pub fn begin_read(&mut self, id: SessionId) -> Reading {
        let consumed = self.mirror(id).counts.consumed;
        self.store.put_slot(id, Call::Read(consumed));
        Reading(id)
    }

    /// Records the bytes that a read returned. There are none at the end of stream, or if nothing had
    /// arrived.
    pub fn end_read(&mut self, Reading(id): Reading, payload: &Bytes) {
        if !payload.is_empty() {
            let consumed = &mut self.mirror(id).counts.consumed;
            let offset = *consumed;
            *consumed += payload.len() as u64;
            let after = *consumed;
            self.store.put_piece(id, offset, payload);
            self.store.put_consumed(id, after);
        }
        self.store.clear_slot();
    }

    /// Records bytes that were read from a local socket before it had a session.
    pub fn note_read(&mut self, id: SessionId, payload: &Bytes) {
        self.end_read(Reading(id), payload);
    }

    /// Records that a read returned an error. A socket returns its error once: later reads look like
    /// the end of stream.
    pub fn fail_read(&mut self, Reading(id): Reading) {
        self.mirror(id).counts.has_failed = true;
        self.store.put_socket_error(id);
        self.store.clear_slot();
    }

    /// Records that a session's local socket is about to be written.
    pub fn begin_write(&mut self, id: SessionId) -> Writing {
        let written = self.mirror(id).counts.written;
        self.store.put_slot(id, Call::Write(written));
        Writing(id)
    }

    /// Records how many bytes a write took.
    pub fn end_write(&mut self, Writing(id): Writing, count: usize) {
        if count > 0 {
            let written = &mut self.mirror(id).counts.written;
            *written += count as u64;
            let after = *written;
            self.store.put_written(id, after);
        }
        self.store.clear_slot();
    }

    /// Records that a write returned an error, as [`Self::fail_read`] does for a read.
    pub fn fail_write(&mut self, Writing(id): Writing) {
        self.fail_read(Reading(id));
    }

    /// Returns whether a session's local socket has returned an error, to this program or to an
    /// earlier one.
    #[must_use]
    pub fn has_failed(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|mirror| mirror.counts.has_failed)
    }

    fn mirror(&mut self, id: SessionId) -> &mut Mirror {
        self.sessions.entry(id).or_insert_with(|| {
            let noted = Noted { numbering: 0, base: Seq::default(), next: Seq::default() };
            Box::new(Mirror { socket: None, counts: Counts::default(), put: None, noted })
        })
    }

    fn put_tunnel(&mut self, tunnel: &Tunnel) -> bool {
        let state = tunnel.state();
        let is_changed = self.tunnel.as_ref() != Some(&state);
        if is_changed {
            self.store.put_tunnel(&state);
            self.tunnel = Some(state);
        }
        is_changed
    }

    fn put_session(&mut self, tunnel: &Tunnel, id: SessionId) -> bool {
        let Some(state) = tunnel.session_state(id) else { return self.remove_session(id) };
        let mirror = self.mirror(id);
        let socket = mirror.socket;
        if mirror.put.as_ref().is_some_and(|put| put.is(&state, socket)) {
            return false;
        }
        self.put_packets(tunnel, id, &state.send);
        let record = SessionRecord { state, socket };
        self.store.put_session(&record);
        let SessionRecord { state, socket } = record;
        self.released.push(Released::Pieces(id, state.send.offset));
        self.mirror(id).put = Some(PutSession::new(state, socket));
        true
    }

    /// Stores entries for new packets, before the record that counts them.
    fn put_packets(&mut self, tunnel: &Tunnel, id: SessionId, send: &SendingState) {
        let SendingState { base, next, numbering, .. } = *send;
        let old = self.mirror(id).noted;
        let count = old.next.distance_from(old.base);
        let freed = base.distance_from(old.base);
        let from = if old.numbering == numbering && freed <= count { old.next } else { base };
        let gone = if from == base { old } else { Noted { next: base, ..old } };
        self.released.push(Released::Packets(id, gone));
        for (seq, boundary) in (0..).map(|n| from.plus(n)).zip(tunnel.boundaries(id, from)) {
            self.store.put_packet(&PacketEntry { session: id, numbering, seq, boundary });
        }
        self.mirror(id).noted = Noted { numbering, base, next };
    }

    fn remove_session(&mut self, id: SessionId) -> bool {
        let Some(mirror) = self.sessions.remove(&id) else { return false };
        let is_put = mirror.put.is_some();
        if is_put {
            self.store.remove_session(id);
        }
        self.released.extend([Released::Packets(id, mirror.noted), Released::Session(id)]);
        is_put
    }

    fn free_released(&mut self) {
        for free in std::mem::take(&mut self.released) {
            match free {
                Released::Packets(id, Noted { numbering, base, next }) => {
                    for number in 0..next.distance_from(base) {
                        self.store.clear_packet(id, numbering, base.plus(number));
                    }
                }
                Released::Pieces(id, offset) => self.store.free_pieces(id, offset),
                Released::Session(id) => self.store.free_session(id),
            }
        }
    }
}
