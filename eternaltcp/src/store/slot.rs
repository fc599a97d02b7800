//! A tunnel's slot: the system call on a local socket that is in progress.

use eternaltcp_proto::SessionId;
use eternaltcp_proto::kept::Call;

use super::memory::Memory;

/// The words of a slot. The first one has the session and the kind of call.
const BEFORE: usize = 8;
const PLACE: usize = 16;

const READ: u64 = 1;
const WRITE: u64 = 2;

/// The contents of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SlotContents {
    pub(super) session: SessionId,
    pub(super) call: Call,
    /// The destination of a read: the block, and the offset in it.
    pub(super) place: Option<(u32, usize)>,
}

/// Returns the word for an offset in a block. Zero means none.
pub(super) fn place(block: u32, at: usize) -> u64 {
    (u64::from(block) + 1) << 32 | at as u64
}

/// Returns the block and the offset that a word encodes.
pub(super) fn parse_place(word: u64) -> Option<(u32, usize)> {
    let block = u32::try_from((word >> 32).checked_sub(1)?).ok()?;
    Some((block, (word as u32) as usize))
}

/// Records that a call begins. Its previous result must have been cleared.
pub(super) fn put(memory: &Memory, at: usize, said: &SlotContents) {
    let (kind, before) = match said.call {
        Call::Read(before) => (READ, before),
        Call::Write(before) => (WRITE, before),
    };
    memory.set(at + BEFORE, before);
    memory.set(at + PLACE, said.place.map_or(0, |(block, at)| place(block, at)));
    memory.set_first(at, kind << 32 | u64::from(said.session.get()));
}

/// Records that no call is in progress.
pub(super) fn clear(memory: &Memory, at: usize) {
    memory.set_first(at, 0);
}

/// Returns the contents of a slot, if a call is in progress.
pub(super) fn read(memory: &Memory, at: usize) -> Option<SlotContents> {
    let (word, before) = (memory.get(at), memory.get(at + BEFORE));
    let session = SessionId::new(word as u32)?;
    let call = match word >> 32 {
        READ => Call::Read(before),
        WRITE => Call::Write(before),
        _ => return None,
    };
    Some(SlotContents { session, call, place: parse_place(memory.get(at + PLACE)) })
}
