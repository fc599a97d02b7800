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
    /// Sessions whose socket was adopted or released since the last commit.
    moved: Vec<SessionId>,
    /// Entries to free after the current commit. Until then the previous records refer to them.
    released: Vec<Released>,
}

/// The maximum capacity of the list of released entries that is kept.
const MAX_RELEASED: usize = 256;

/// The record of a session in the store.
#[derive(Default, Debug)]
struct Mirror {
    socket: Option<SocketId>,
    counts: Counts,
    /// The state that was last stored, with the socket at that time.
    put: Option<PutSession>,
    noted: Noted,
}

/// The packets of a session that have entries in the store.
#[derive(Clone, Copy, Default, Debug)]
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
        let (moved, released) = (Vec::new(), Vec::new());
        Self { store, tunnel: None, sessions: BTreeMap::new(), moved, released }
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

    /// Stores all changes of the tunnel, and the sockets that were adopted and released. Call it
    /// before anything is sent on a carrier.
    pub fn commit(&mut self, tunnel: &mut Tunnel) -> Committed {
        let mut is_changed = false;
        while let Some(id) = tunnel.poll_changed() {
            is_changed |= self.put_session(tunnel, id);
        }
        is_changed |= self.put_moved(tunnel);
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

    /// Records the local socket of a session, which was neither read nor written yet, with the next
    /// commit. It must not be used before that: otherwise a recovery could connect a second socket,
    /// which would get the same bytes again.
    pub fn adopt(&mut self, id: SessionId, socket: SocketId) {
        self.mirror(id).socket = Some(socket);
        self.moved.push(id);
    }

    /// Records that a session's local socket is about to be closed, with the next commit; its
    /// `SO_LINGER` is set already. It must not be closed before that: no record may name a closed
    /// descriptor, and the tunnel must know what the application was told, because it cannot be told
    /// again. If the session is reset, no commit may come between that and this call: in a record that
    /// still names a socket, a reset means that the peer's reset is still to come.
    pub fn release(&mut self, id: SessionId) {
        if let Some(mirror) = self.sessions.get_mut(&id) {
            mirror.socket = None;
            self.moved.push(id);
        }
    }

    /// Returns how many sockets were adopted or released since the last commit.
    #[must_use]
    pub fn moved_count(&self) -> usize {
        self.moved.len()
    }

    /// Records that a session's local socket is about to be read.
    pub fn begin_read(&mut self, id: SessionId) -> Reading {
        let mirror = self.mirror(id);
        debug_assert!(mirror.is_usable(), "a socket is read before it is committed");
        let consumed = mirror.counts.consumed;
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
        let mirror = self.mirror(id);
        debug_assert!(mirror.is_usable(), "a socket is written before it is committed");
        let written = mirror.counts.written;
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
        self.sessions.entry(id).or_default()
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

    /// Puts the sessions whose records do not name their socket.
    fn put_moved(&mut self, tunnel: &Tunnel) -> bool {
        let mut is_changed = false;
        while let Some(id) = self.moved.pop() {
            // Most of them have changed otherwise, too, and were put already.
            if self.sessions.get(&id).is_some_and(|mirror| !mirror.has_put_socket()) {
                is_changed |= self.put_session(tunnel, id);
            }
        }
        is_changed
    }

    fn put_session(&mut self, tunnel: &Tunnel, id: SessionId) -> bool {
        let Some(state) = tunnel.session_state(id) else { return self.remove_session(id) };
        let Self { store, sessions, released, .. } = self;
        let mirror = &mut **sessions.entry(id).or_default();
        let socket = mirror.socket;
        let freed = match &mirror.put {
            Some(put) if put.is(&state, socket) => return false,
            Some(put) => put.offset(),
            None => 0,
        };
        let (gone, from) = mirror.noted.advance(&state.send);
        // Entries for new packets come before the record that counts them.
        let numbering = state.send.numbering;
        for (seq, boundary) in (0..).map(|n| from.plus(n)).zip(tunnel.boundaries(id, from)) {
            store.put_packet(&PacketEntry { session: id, numbering, seq, boundary });
        }
        released.extend(gone.map(|gone| Released::Packets(id, gone)));
        let record = SessionRecord { state, socket };
        store.put_session(&record);
        let SessionRecord { state, socket } = record;
        if state.send.offset != freed {
            released.push(Released::Pieces(id, state.send.offset));
        }
        match &mut mirror.put {
            Some(put) => put.replace(state, socket),
            None => mirror.put = Some(PutSession::new(state, socket)),
        }
        true
    }

    fn remove_session(&mut self, id: SessionId) -> bool {
        let Some(mirror) = self.sessions.remove(&id) else { return false };
        let is_put = mirror.put.is_some();
        if is_put {
            self.store.remove_session(id);
        }
        self.released.extend(mirror.noted.some().map(|noted| Released::Packets(id, noted)));
        self.released.push(Released::Session(id));
        is_put
    }

    fn free_released(&mut self) {
        for free in self.released.drain(..) {
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
        // A burst of sessions leaves no memory in use.
        if self.released.capacity() > MAX_RELEASED {
            self.released = Vec::new();
        }
    }
}

impl Mirror {
    /// Returns whether the stored record names the socket, or that there is none.
    fn has_put_socket(&self) -> bool {
        self.put.as_ref().is_some_and(|put| put.socket() == self.socket)
    }

    /// Returns whether the socket, if there is one that has a name, may be read and written.
    fn is_usable(&self) -> bool {
        self.socket.is_none() || self.has_put_socket()
    }
}

impl Noted {
    /// Follows a queue. Returns the packets that it no longer has, and the number of the first one
    /// that has no entry.
    fn advance(&mut self, send: &SendingState) -> (Option<Self>, Seq) {
        let SendingState { base, next, numbering, .. } = *send;
        let old = std::mem::replace(self, Self { numbering, base, next });
        let count = old.next.distance_from(old.base);
        let freed = base.distance_from(old.base);
        let from = if old.numbering == numbering && freed <= count { old.next } else { base };
        let gone = if from == base { old } else { Self { next: base, ..old } };
        (gone.some(), from)
    }

    /// Returns itself, unless it has no packets.
    fn some(self) -> Option<Self> {
        (self.next != self.base).then_some(self)
    }
}
