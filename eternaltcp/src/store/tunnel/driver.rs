//! The driver's records of a tunnel.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::SessionId;

use super::super::fields::RecordWriter;
use super::super::note;
use super::super::payload::PayloadPlace;
use super::{Means, NOTE, TunnelStore};

/// A word of the record that is not zero while the driver processes the tunnel.
pub(in crate::store) const BUSY: usize = 24;
/// The value of that word while the driver processes the tunnel.
const AT_WORK: u64 = 1;
/// The value of that word after a thread has panicked while it drove the tunnel, and while the
/// tunnel is read.
pub(in crate::store) const ACCUSED: u64 = 2;
/// A word with the time at which the tunnel was detached, in nanoseconds of the boot-time clock. It
/// is zero while the tunnel is attached.
pub(super) const DETACHED_SINCE: usize = 32;
/// Words with the times of the crashes during which the tunnel was being processed, by the same
/// clock, the newest first.
pub(in crate::store) const CRASHES: [usize; 3] = [40, 48, 56];

/// Words with totals of the tunnel.
pub(super) const TOTALS: [usize; 5] = [64, 72, 80, 88, 96];

/// Totals of a tunnel over all processes that served it, in an order of the driver's choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TunnelTotals(pub(crate) [u64; TOTALS.len()]);

thread_local! {
    /// The index of the record of the tunnel that this thread drives.
    static CURRENT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Returns the index of the record of the tunnel that this thread drives.
pub(in crate::store) fn current() -> Option<u32> {
    CURRENT.get()
}

impl TunnelStore {
    /// Keeps the driver's note about the tunnel. The previous note stays valid until this one is
    /// complete. Returns false, and changes nothing, if there is no memory for it.
    pub(crate) fn set_note(&mut self, note: &[u8]) -> bool {
        let Some(cell) = self.payload.keep(&note::frame(note)) else { return false };
        self.memory.set(self.at() + NOTE, cell.place());
        if let Some(PayloadPlace::Cell(old)) = self.note.replace(PayloadPlace::Cell(cell)) {
            self.payload.wipe(old);
        }
        true
    }

    /// Returns the note that an earlier process has left.
    #[must_use]
    pub(crate) fn found_note(&self) -> Option<Bytes> {
        match &self.note {
            Some(PayloadPlace::Found(note)) => Some(note.clone()),
            _ => None,
        }
    }

    /// Keeps the driver's note about a session that is not committed yet.
    pub(crate) fn set_session_note(
        &mut self,
        id: SessionId,
        encode: impl FnOnce(&mut RecordWriter),
    ) {
        let note = self.encode(encode);
        if let Some((session, Means { memory, payload, .. })) = self.session(id) {
            session.set_note(memory, payload, &note);
        }
        self.encoded = note;
    }

    /// Returns the note about a session that an earlier process has left.
    #[must_use]
    pub(crate) fn found_session_note(&self, id: SessionId) -> Option<Bytes> {
        self.sessions.get(&id)?.found_note(&self.memory)
    }

    /// Records whether the driver processes the tunnel. If the process dies meanwhile, the tunnel
    /// may be the reason.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        CURRENT.set(is_busy.then_some(self.index));
        self.memory.set(self.at() + BUSY, if is_busy { AT_WORK } else { 0 });
    }

    /// Records whether the state of the tunnel is being read. If the process dies meanwhile, no other
    /// tunnel is the reason.
    pub(crate) fn set_reading(&self, is_reading: bool) {
        self.memory.set_first(self.at() + BUSY, if is_reading { ACCUSED } else { 0 });
    }

    /// Records the totals of the tunnel.
    pub(crate) fn set_totals(&self, totals: &TunnelTotals) {
        let words = TOTALS.map(|word| self.at() + word);
        words.into_iter().zip(totals.0).for_each(|(word, total)| self.memory.set(word, total));
    }

    /// Returns the totals that an earlier process has recorded.
    pub(crate) fn totals(&self) -> TunnelTotals {
        TunnelTotals(TOTALS.map(|word| self.memory.get(self.at() + word)))
    }

    /// Records when the tunnel was detached, by the boot-time clock.
    pub(crate) fn set_detached_since(&self, since: Option<Duration>) {
        let nanos = |since: Duration| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.memory.set(self.at() + DETACHED_SINCE, since.map_or(0, nanos));
    }

    /// Returns the time at which the tunnel was detached, unless it was attached at the end.
    #[must_use]
    pub(crate) fn detached_since(&self) -> Option<Duration> {
        let nanos = self.memory.get(self.at() + DETACHED_SINCE);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}
