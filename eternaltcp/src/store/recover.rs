//! The state that an earlier process has left.
//!
//! Nothing read here is trusted: an invalid record is cleared as if it had never been written. Each
//! change can be repeated if this process dies meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use eternaltcp_proto::SessionId;

use super::BLOCK;
use super::copies::RecordCopies;
use super::memory::{Memory, StoreMemory};
use super::payload::PayloadPlace;
use super::session::{self, StoredSession};
use super::tunnel::{DamagedTunnel, GENERATION, TunnelStore};
use super::{note, pieces, slot, tunnel};

impl StoreMemory {
    /// Returns the tunnels that an earlier process has left. Those whose records cannot be read are
    /// ended, and passed to `damaged`. Call this once, before the first new tunnel.
    #[must_use]
    pub fn recover(&self, damaged: impl FnMut(DamagedTunnel)) -> Vec<TunnelStore> {
        let Memory { words, tunnels, sessions, pieces, packets, .. } = &*self.0;
        [tunnels, sessions, pieces, packets].into_iter().for_each(|table| table.reload(words));
        let stores = recover(&self.0);
        let (whole, broken): (Vec<_>, Vec<_>) = stores.into_iter().partition(TunnelStore::is_whole);
        // A tunnel without a commit had not begun.
        broken.iter().filter_map(TunnelStore::damage).for_each(damaged);
        broken.into_iter().for_each(TunnelStore::end);
        whole
    }
}

/// Blocks that an earlier process has filled.
struct Found<'a> {
    memory: &'a Memory,
    blocks: BTreeMap<u32, Option<Bytes>>,
}

impl Found<'_> {
    /// Returns the bytes at the position that a word encodes.
    fn part(&mut self, place: u64, length: usize) -> Option<Bytes> {
        let (block, at) = slot::parse_place(place)?;
        let end = at.checked_add(length).filter(|end| *end <= BLOCK)?;
        let claim = || Some(Bytes::from_owner(self.memory.blocks.claim(block)?.into_part()));
        let whole = self.blocks.entry(block).or_insert_with(claim);
        whole.as_ref().map(|whole| whole.slice(at..end))
    }
}

/// Returns the tunnels that an earlier process has left, and frees everything else.
fn recover(memory: &Arc<Memory>) -> Vec<TunnelStore> {
    let mut found = Found { memory, blocks: BTreeMap::new() };
    let mut tunnels = find_tunnels(memory, &mut found);
    let owners = find_sessions(memory, &mut tunnels, &mut found);
    find_packets(memory, &mut tunnels, &owners);
    find_pieces(memory, &mut tunnels, &owners, &mut found);
    for (index, store) in &mut tunnels {
        memory.reading(*index, || {
            let place = slot::read(memory, memory.slot(*index)).and_then(|said| said.place);
            let landed = place
                .and_then(|(block, at)| found.part(slot::place(block, at), BLOCK.checked_sub(at)?));
            store.set_landed(landed);
        });
    }
    drop(found);
    memory.blocks.release_untaken();
    tunnels.into_values().collect()
}

fn find_tunnels(memory: &Arc<Memory>, found: &mut Found<'_>) -> BTreeMap<u32, TunnelStore> {
    let (mut tunnels, mut free) = (BTreeMap::new(), Vec::new());
    for index in 0..memory.tunnels.mark() {
        let at = memory.tunnels.at(index);
        let call = memory.words.take_call(index as usize);
        let Some(call) = call.filter(|_| memory.get(at) != 0) else {
            free.push(index);
            continue;
        };
        let committed = memory.get(at + GENERATION);
        let start = TunnelStore::copies_at(memory, index);
        let store = memory.reading(index, || {
            let part = |place, length| found.part(place, length);
            let copies = RecordCopies::find(memory, start, tunnel::COPY, committed, part);
            let part = |place, length| found.part(place, length);
            let note = note::find(part, memory.get(at + tunnel::NOTE)).map(PayloadPlace::Found);
            TunnelStore::new(memory, index, call, copies, note)
        });
        tunnels.insert(index, store);
    }
    memory.tunnels.set_free(free);
    tunnels
}

/// The owner of a session's record.
type Owners = BTreeMap<u32, (u32, SessionId)>;

fn find_sessions(
    memory: &Memory,
    tunnels: &mut BTreeMap<u32, TunnelStore>,
    found: &mut Found<'_>,
) -> Owners {
    let (mut owners, mut free) = (Owners::new(), Vec::new());
    for record in 0..memory.sessions.mark() {
        let owner = session::owner(memory, record);
        let store = owner.and_then(|(id, tunnel)| Some((id, tunnel, tunnels.get_mut(&tunnel)?)));
        let Some((id, tunnel, store)) = store.filter(|(id, _, store)| !store.has_session(*id))
        else {
            memory.set_first(memory.sessions.at(record), 0);
            free.push(record);
            continue;
        };
        let committed = memory.get(memory.tunnels.at(tunnel) + GENERATION);
        let start = StoredSession::copies_at(memory, record);
        let session = memory.reading(tunnel, || {
            let part = |place, length| found.part(place, length);
            let copies = RecordCopies::find(memory, start, session::COPY, committed, part);
            let part = |place, length| found.part(place, length);
            let place = StoredSession::note_place(memory, record);
            let note = note::find(part, place).map(PayloadPlace::Found);
            StoredSession::new(record, copies, note)
        });
        store.sessions_mut().insert(id, Box::new(session));
        owners.insert(record, (tunnel, id));
    }
    memory.sessions.set_free(free);
    owners
}

/// Returns the session to which this record belongs.
fn owner<'a>(
    tunnels: &'a mut BTreeMap<u32, TunnelStore>,
    owners: &Owners,
    record: u32,
) -> Option<&'a mut StoredSession> {
    let (tunnel, id) = owners.get(&record)?;
    tunnels.get_mut(tunnel)?.sessions_mut().get_mut(id).map(Box::as_mut)
}

fn find_packets(memory: &Memory, tunnels: &mut BTreeMap<u32, TunnelStore>, owners: &Owners) {
    let (mut found, mut free) = (Vec::new(), Vec::new());
    for entry in 0..memory.packets.mark() {
        match session::packet(memory, entry).filter(|it| owners.contains_key(&it.0)) {
            Some((record, numbering, seq, _)) => found.push((record, numbering, seq, entry)),
            None => {
                memory.set_first(memory.packets.at(entry), 0);
                free.push(entry);
            }
        }
    }
    found.sort_unstable_by_key(|(record, numbering, seq, _)| (*record, *numbering, seq.get()));
    for (record, numbering, seq, entry) in found {
        if let Some(session) = owner(tunnels, owners, record) {
            session.push_found(numbering, seq, entry);
        }
    }
    memory.packets.set_free(free);
}

fn find_pieces(
    memory: &Memory,
    tunnels: &mut BTreeMap<u32, TunnelStore>,
    owners: &Owners,
    found: &mut Found<'_>,
) {
    let mut free = Vec::new();
    for entry in 0..memory.pieces.mark() {
        let said = pieces::read(memory, entry);
        let part = said.and_then(|said| {
            let session = owner(tunnels, owners, said.owner)?;
            Some((session, said.offset, found.part(said.place, said.length as usize)?))
        });
        match part {
            Some((session, offset, bytes)) => session.pieces.push_found(entry, offset, bytes),
            None => {
                memory.set_first(memory.pieces.at(entry), 0);
                free.push(entry);
            }
        }
    }
    memory.pieces.set_free(free);
    for store in tunnels.values_mut() {
        store.sessions_mut().values_mut().for_each(|session| session.pieces.sort());
    }
}
