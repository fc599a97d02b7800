//! The mirror of a tunnel in memory that outlives its program.
//!
//! Before anything leaves on a carrier the driver calls [`Kept::commit`]: whatever the
//! peer hears of is kept by then, so the tunnel that [`Kept::recover`] finds is the one
//! that the peer knows. Local sockets are read and written between two words to the
//! store, so that what they gave and took is known to the byte.
//!
//! All records of a commit count at once. Each alone would not do: a record of the
//! tunnel with the epoch of before, and one of a session that was acknowledged since,
//! would let an attach that was stuck take the session back.

mod recover;
mod store;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::SessionId;
use crate::seq::Seq;
use crate::state::{SendingState, SessionState, TunnelState};
use crate::tunnel::Tunnel;

pub use recover::{Recovered, RecoveredSession};
pub use store::{Call, Contents, Counts, PacketEntry, Piece, SessionRecord, Slot, SocketId, Store};

/// Shows that the store is in step with the tunnel: something may be sent.
#[derive(Debug)]
#[must_use]
pub struct Committed(());

impl Committed {
    /// Returns what a driver without a store has in its place.
    pub const fn without_store() -> Self {
        Self(())
    }
}

/// Something that was put and is not so, and what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stray {
    /// The tunnel's record.
    Tunnel,
    /// A session's record: as it was put, and as it is.
    Session(Box<[Option<SessionState>; 2]>),
}

/// A read from a local socket that is under way.
#[derive(Debug)]
#[must_use]
pub struct Reading(SessionId);

/// A write to a local socket that is under way.
#[derive(Debug)]
#[must_use]
pub struct Writing(SessionId);

/// Keeps a store in step with a tunnel.
#[derive(Debug)]
pub struct Kept<S> {
    store: S,
    /// As it was last put.
    tunnel: Option<TunnelState>,
    sessions: BTreeMap<SessionId, Mirror>,
    /// The entries that are free once the present commit is done: until then the records refer to
    /// them.
    limbo: Vec<Limbo>,
}

/// The record of a session in the store.
#[derive(Debug)]
struct Mirror {
    socket: Option<SocketId>,
    counts: Counts,
    /// As it was last put, with the socket of then.
    put: Option<(SessionState, Option<SocketId>)>,
    noted: Noted,
}

/// The packets of a session that have entries in the store.
#[derive(Clone, Copy, Debug)]
struct Noted {
    numbering: u32,
    base: Seq,
    next: Seq,
}

#[derive(Debug)]
enum Limbo {
    Packets(SessionId, Noted),
    Pieces(SessionId, u64),
    Session(SessionId),
}

impl<S: Store> Kept<S> {
    /// Of a tunnel of which the store has nothing yet.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store, tunnel: None, sessions: BTreeMap::new(), limbo: Vec::new() }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for whoever plays the kernel.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The store, for whoever ends it.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Brings the store in step with the tunnel. To be called before anything is sent on
    /// a carrier.
    pub fn commit(&mut self, tunnel: &mut Tunnel) -> Committed {
        self.commit_after(tunnel, false)
    }

    fn commit_after(&mut self, tunnel: &mut Tunnel, mut is_changed: bool) -> Committed {
        while let Some(id) = tunnel.poll_changed() {
            is_changed |= self.put_session(tunnel, id);
        }
        if self.put_tunnel(tunnel) || is_changed {
            self.store.commit_done();
            self.release_limbo();
        }
        Committed(())
    }

    /// What was put and is not as the tunnel says, or what is missing: a check for tests,
    /// after a commit.
    #[must_use]
    pub fn find_stray(&self, tunnel: &Tunnel) -> Option<Stray> {
        if self.tunnel != Some(tunnel.state()) {
            return Some(Stray::Tunnel);
        }
        let put = |id| Some(self.sessions.get(&id)?.put.as_ref()?.0.clone());
        let ids = tunnel.session_ids().chain(self.sessions.keys().copied());
        let mut states = ids.map(|id| [put(id), tunnel.session_state(id)]);
        states.find(|[put, is]| put != is).map(|both| Stray::Session(Box::new(both)))
    }

    /// A session has a local socket, from which nothing was read and to which nothing was
    /// written. It is committed before that changes: a second socket in its place would
    /// get the same bytes once more.
    pub fn adopt(&mut self, tunnel: &mut Tunnel, id: SessionId, socket: SocketId) -> Committed {
        self.set_socket(tunnel, id, Some(socket))
    }

    /// A session's local socket is to be closed, as its `SO_LINGER` says already. No record
    /// names a descriptor that is closed, and the tunnel knows what the socket was told
    /// when nobody can tell it again.
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

    /// A session's local socket is to be read.
    pub fn begin_read(&mut self, id: SessionId) -> Reading {
        let consumed = self.mirror(id).counts.consumed;
        self.store.put_slot(id, Call::Read(consumed));
        Reading(id)
    }

    /// It was read, and gave these bytes; without any, nothing or the end of stream.
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

    /// Bytes came from a session's local socket before it was a session's.
    pub fn note_read(&mut self, id: SessionId, payload: &Bytes) {
        self.end_read(Reading(id), payload);
    }

    /// It was read, and told an error. It tells that once: what follows looks like an
    /// end of stream.
    pub fn fail_read(&mut self, Reading(id): Reading) {
        self.mirror(id).counts.has_failed = true;
        self.store.put_socket_error(id);
        self.store.clear_slot();
    }

    /// Something is to be written to a session's local socket.
    pub fn begin_write(&mut self, id: SessionId) -> Writing {
        let written = self.mirror(id).counts.written;
        self.store.put_slot(id, Call::Write(written));
        Writing(id)
    }

    /// It took so many bytes.
    pub fn end_write(&mut self, Writing(id): Writing, count: usize) {
        if count > 0 {
            let written = &mut self.mirror(id).counts.written;
            *written += count as u64;
            let after = *written;
            self.store.put_written(id, after);
        }
        self.store.clear_slot();
    }

    /// It was written to, and told an error, as a read does.
    pub fn fail_write(&mut self, Writing(id): Writing) {
        self.fail_read(Reading(id));
    }

    /// Whether a session's local socket has told an error, to this program or to one before it.
    #[must_use]
    pub fn has_failed(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|mirror| mirror.counts.has_failed)
    }

    fn mirror(&mut self, id: SessionId) -> &mut Mirror {
        self.sessions.entry(id).or_insert_with(|| Mirror {
            socket: None,
            counts: Counts::default(),
            put: None,
            noted: Noted { numbering: 0, base: Seq::default(), next: Seq::default() },
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
        if mirror.put.as_ref().is_some_and(|(put, with)| *put == state && *with == socket) {
            return false;
        }
        self.put_packets(tunnel, id, &state.send);
        let record = SessionRecord { state, socket };
        self.store.put_session(&record);
        let SessionRecord { state, socket } = record;
        self.limbo.push(Limbo::Pieces(id, state.send.offset));
        self.mirror(id).put = Some((state, socket));
        true
    }

    /// Entries for the packets that have none, ahead of the record that counts them.
    fn put_packets(&mut self, tunnel: &Tunnel, id: SessionId, send: &SendingState) {
        let SendingState { base, next, numbering, .. } = *send;
        let old = self.mirror(id).noted;
        let count = old.next.distance_from(old.base);
        let freed = base.distance_from(old.base);
        let from = if old.numbering == numbering && freed <= count { old.next } else { base };
        let gone = if from == base { old } else { Noted { next: base, ..old } };
        self.limbo.push(Limbo::Packets(id, gone));
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
        self.limbo.extend([Limbo::Packets(id, mirror.noted), Limbo::Session(id)]);
        is_put
    }

    fn release_limbo(&mut self) {
        for free in std::mem::take(&mut self.limbo) {
            match free {
                Limbo::Packets(id, Noted { numbering, base, next }) => {
                    for number in 0..next.distance_from(base) {
                        self.store.clear_packet(id, numbering, base.plus(number));
                    }
                }
                Limbo::Pieces(id, offset) => self.store.free_pieces(id, offset),
                Limbo::Session(id) => self.store.free_session(id),
            }
        }
    }
}
