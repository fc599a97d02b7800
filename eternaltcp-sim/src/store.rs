//! A store in memory that outlives the end that writes it, and kills it at a chosen
//! call.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use eternaltcp_proto::kept::{Call, Contents, PacketEntry, Piece, SessionRecord, Slot, Store};
use eternaltcp_proto::{Seq, SessionId, Side, TunnelState};

/// An end that dies unwinds with this.
#[derive(Debug)]
pub(crate) struct StoreDeath(pub(crate) Side);

/// The kind of a call of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// A record is written or removed.
    Commit,
    /// A local socket returned bytes, which must be recorded.
    Read,
    /// A local socket took bytes, which must be recorded.
    Write,
    /// Anything else.
    Other,
}

/// An end's store. Its end has one handle, the world another.
#[derive(Clone, Debug)]
pub(crate) struct StoreHandle(Rc<RefCell<MemStore>>);

#[derive(Debug)]
struct MemStore {
    side: Side,
    /// The state that counts.
    contents: Contents,
    packets: BTreeMap<(SessionId, u32, u32), PacketEntry>,
    pieces: BTreeMap<(SessionId, u64), Bytes>,
    /// The changes that take effect once the commit is done.
    staged: Vec<Staged>,
    calls: u64,
    dies_at: Option<u64>,
    died: Option<Moment>,
}

#[derive(Debug)]
enum Staged {
    Tunnel(TunnelState),
    Session(SessionRecord),
    Gone(SessionId),
}

impl MemStore {
    fn new(side: Side) -> Self {
        Self {
            side,
            contents: Contents::default(),
            packets: BTreeMap::new(),
            pieces: BTreeMap::new(),
            staged: Vec::new(),
            calls: 0,
            dies_at: None,
            died: None,
        }
    }
}

impl StoreHandle {
    /// Creates an empty store.
    pub(crate) fn new(side: Side) -> Self {
        Self(Rc::new(RefCell::new(MemStore::new(side))))
    }

    /// Returns how many calls it has had.
    pub(crate) fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

    /// Lets its end die at the call that follows the next `calls` calls.
    pub(crate) fn kill_after(&self, calls: u64) {
        let mut store = self.0.borrow_mut();
        store.dies_at = Some(store.calls + 1 + calls);
    }

    /// Lets its end live.
    pub(crate) fn spare(&self) {
        self.0.borrow_mut().dies_at = None;
    }

    /// Returns the moment at which its end died last, once.
    pub(crate) fn take_moment(&self) -> Option<Moment> {
        self.0.borrow_mut().died.take()
    }

    /// Does the kernel's part of a system call: the result is in the slot, even if the program
    /// dies.
    pub(crate) fn kernel_moves(&self, count: usize, landed: Bytes) {
        let mut store = self.0.borrow_mut();
        let slot = store.contents.slot.as_mut().expect("no call of the driver without a slot");
        (slot.count, slot.landed) = (u32::try_from(count).ok(), landed);
    }

    /// Replaces the contents.
    pub(crate) fn replace(&self, mut contents: Contents) {
        let mut store = self.0.borrow_mut();
        let packets = std::mem::take(&mut contents.packets).into_iter();
        let key = |packet: &PacketEntry| (packet.session, packet.numbering, packet.seq.get());
        store.packets = packets.map(|packet| (key(&packet), packet)).collect();
        let pieces = std::mem::take(&mut contents.pieces).into_iter();
        store.pieces = pieces.map(|it| ((it.session, it.offset), it.payload)).collect();
        store.contents = contents;
    }

    /// Clears the contents.
    pub(crate) fn clear(&self) {
        let mut store = self.0.borrow_mut();
        let (calls, dies_at) = (store.calls, store.dies_at);
        *store = MemStore { calls, dies_at, ..MemStore::new(store.side) };
    }

    fn call(&self, moment: Moment) -> RefMut<'_, MemStore> {
        let mut store = self.0.borrow_mut();
        store.calls += 1;
        if store.dies_at == Some(store.calls) {
            (store.dies_at, store.died) = (None, Some(moment));
            let side = store.side;
            drop(store);
            std::panic::resume_unwind(Box::new(StoreDeath(side)));
        }
        store
    }
}

impl Store for StoreHandle {
    fn put_tunnel(&mut self, state: &TunnelState) {
        self.call(Moment::Commit).staged.push(Staged::Tunnel(state.clone()));
    }

    fn put_session(&mut self, record: &SessionRecord) {
        self.call(Moment::Commit).staged.push(Staged::Session(record.clone()));
    }

    fn remove_session(&mut self, id: SessionId) {
        self.call(Moment::Commit).staged.push(Staged::Gone(id));
    }

    fn commit_done(&mut self) {
        let mut store = self.call(Moment::Commit);
        for staged in std::mem::take(&mut store.staged) {
            let contents = &mut store.contents;
            match staged {
                Staged::Tunnel(state) => contents.tunnel = Some(state),
                Staged::Session(record) => {
                    contents.sessions.insert(record.state.id, record);
                }
                Staged::Gone(id) => {
                    contents.sessions.remove(&id);
                }
            }
        }
    }

    fn put_packet(&mut self, packet: &PacketEntry) {
        let key = (packet.session, packet.numbering, packet.seq.get());
        self.call(Moment::Commit).packets.insert(key, *packet);
    }

    fn clear_packet(&mut self, id: SessionId, numbering: u32, seq: Seq) {
        self.call(Moment::Commit).packets.remove(&(id, numbering, seq.get()));
    }

    fn put_piece(&mut self, id: SessionId, offset: u64, payload: &Bytes) {
        self.call(Moment::Read).pieces.insert((id, offset), payload.clone());
    }

    fn free_pieces(&mut self, id: SessionId, offset: u64) {
        let mut store = self.call(Moment::Commit);
        let mut old = store.pieces.range((id, 0)..(id, offset));
        let ends = |(key, bytes): (&(SessionId, u64), &Bytes)| (*key, key.1 + bytes.len() as u64);
        let free: Vec<_> = old.by_ref().map(ends).filter(|(_, end)| *end <= offset).collect();
        for (key, _) in free {
            store.pieces.remove(&key);
        }
    }

    fn free_session(&mut self, id: SessionId) {
        let mut store = self.call(Moment::Commit);
        store.pieces.retain(|(owner, _), _| *owner != id);
        store.contents.counts.remove(&id);
    }

    fn put_consumed(&mut self, id: SessionId, count: u64) {
        self.call(Moment::Read).contents.counts.entry(id).or_default().consumed = count;
    }

    fn put_written(&mut self, id: SessionId, count: u64) {
        self.call(Moment::Write).contents.counts.entry(id).or_default().written = count;
    }

    fn put_socket_error(&mut self, id: SessionId) {
        self.call(Moment::Read).contents.counts.entry(id).or_default().has_failed = true;
    }

    fn put_slot(&mut self, session: SessionId, call: Call) {
        let slot = Slot { session, call, count: None, landed: Bytes::new() };
        self.call(Moment::Other).contents.slot = Some(slot);
    }

    fn clear_slot(&mut self) {
        self.call(Moment::Other).contents.slot = None;
    }

    fn contents(&mut self) -> Contents {
        let mut store = self.0.borrow_mut();
        store.staged.clear();
        let packets = store.packets.values().copied().collect();
        let piece = |((session, offset), payload): (&(SessionId, u64), &Bytes)| Piece {
            session: *session,
            offset: *offset,
            payload: payload.clone(),
        };
        let pieces = store.pieces.iter().map(piece).collect();
        Contents { packets, pieces, ..store.contents.clone() }
    }
}
