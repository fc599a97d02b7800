//! A tunnel's slot: the one system call on a local socket that is under way.

use eternaltcp_proto::SessionId;
use eternaltcp_proto::kept::Call;

use super::memory::Memory;

/// The words of a slot. The first one is the session and what the call does.
const BEFORE: usize = 8;
const PLACE: usize = 16;

const READ: u64 = 1;
const WRITE: u64 = 2;

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SlotContents {
    pub(super) session: SessionId,
    pub(super) call: Call,
    /// Where a read puts its bytes: the block, and where in it.
    pub(super) place: Option<(u32, usize)>,
}

/// Returns the word for a place in a block. Zero is none.
pub(super) fn place(block: u32, at: usize) -> u64 {
    (u64::from(block) + 1) << 32 | at as u64
}

/// Returns the place that a word stands for.
pub(super) fn parse_place(word: u64) -> Option<(u32, usize)> {
    let block = u32::try_from((word >> 32).checked_sub(1)?).ok()?;
    Some((block, (word as u32) as usize))
}

/// Says that a call begins. Its result was forgotten before.
pub(super) fn put(memory: &Memory, at: usize, said: &SlotContents) {
    let (kind, before) = match said.call {
        Call::Read(before) => (READ, before),
        Call::Write(before) => (WRITE, before),
    };
    memory.set(at + BEFORE, before);
    memory.set(at + PLACE, said.place.map_or(0, |(block, at)| place(block, at)));
    memory.set_first(at, kind << 32 | u64::from(said.session.get()));
}

/// Says that no call is under way.
pub(super) fn clear(memory: &Memory, at: usize) {
    memory.set_first(at, 0);
}

/// Returns what a slot says, if a call is under way.
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
