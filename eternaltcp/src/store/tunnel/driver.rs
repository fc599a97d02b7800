//! The driver's records of a tunnel.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::SessionId;

use super::super::fields::RecordWriter;
use super::super::memory::{Memory, StoreMemory};
use super::super::note;
use super::super::payload::PayloadPlace;
use super::{Means, NOTE, TunnelStore};

/// A word of the record that is not zero while the driver processes the tunnel.
pub(super) const BUSY: usize = 24;
/// The value of that word while the driver processes the tunnel.
const AT_WORK: u64 = 1;
/// The value of that word after a thread has panicked while it drove the tunnel.
const ACCUSED: u64 = 2;
/// A word with the time at which the tunnel was detached, in nanoseconds of the boot-time clock. It
/// is zero while the tunnel is attached.
pub(super) const DETACHED_SINCE: usize = 32;
/// Words with the times of the crashes during which the tunnel was being processed, by the same
/// clock, the newest first.
pub(super) const CRASHES: [usize; 3] = [40, 48, 56];

/// A tunnel that was being processed in as many crashes as are recorded, within this time, is
/// ended.
const CRASH_PERIOD: Duration = Duration::from_secs(60);

impl StoreMemory {
    /// Returns whether a tunnel was being processed when the last process stopped, and so may be
    /// the reason for its death. Another process with the same memory may call this.
    #[must_use]
    pub fn has_suspect(&self) -> bool {
        let Memory { words, tunnels, .. } = &*self.0;
        let is_busy = |index| {
            let at = tunnels.at(index);
            self.0.get(at) != 0 && self.0.get(at + BUSY) != 0
        };
        (0..tunnels.stored_mark(words)).any(is_busy)
    }

    /// Records that the calling thread panics. The tunnel that it drives is the reason, and no other
    /// tunnel that is processed at the same time.
    pub(crate) fn accuse(&self) {
        if let Some(index) = current() {
            self.0.set(self.0.tunnels.at(index) + BUSY, ACCUSED);
        }
    }

    /// Returns whether the last process panicked while it drove a tunnel.
    pub(crate) fn has_accused(&self) -> bool {
        let Memory { words, tunnels, .. } = &*self.0;
        let is_accused = |index| {
            let at = tunnels.at(index);
            self.0.get(at) != 0 && self.0.get(at + BUSY) == ACCUSED
        };
        (0..tunnels.stored_mark(words)).any(is_accused)
    }
}

thread_local! {
    /// The index of the record of the tunnel that this thread drives.
    static CURRENT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Returns the index of the record of the tunnel that this thread drives.
fn current() -> Option<u32> {
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

    /// Returns whether a thread of the last process panicked while it drove the tunnel.
    pub(crate) fn is_accused(&self) -> bool {
        self.memory.get(self.at() + BUSY) == ACCUSED
    }

    /// Handles the crash of the last process, at `now` of the boot-time clock. Returns whether the
    /// tunnel was being processed in too many crashes.
    pub(crate) fn handle_crash(&self, now: Duration) -> bool {
        let at = self.at();
        if self.memory.get(at + BUSY) == 0 {
            return false;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let [first, second, third] = CRASHES.map(|word| at + word);
        self.memory.set(third, self.memory.get(second));
        self.memory.set(second, self.memory.get(first));
        self.memory.set(first, nanos(now));
        // The crash is counted once.
        self.set_busy(false);
        let oldest = self.memory.get(third);
        oldest > 0 && nanos(now).saturating_sub(oldest) < nanos(CRASH_PERIOD)
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
