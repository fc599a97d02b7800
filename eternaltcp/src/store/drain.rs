//! Whether the program is being drained: the next one then takes nothing new, either.

use std::time::Duration;

use super::memory::StoreMemory;

/// The offset of the header's word for the drain, which is zero, [`UNLIMITED`], or the time of the
/// end.
const DRAIN: usize = 1040;

/// The program ends with its last session, without a time limit.
const UNLIMITED: u64 = 1;

/// The smallest value that represents a time, in milliseconds.
const FIRST: u64 = 2;

/// The bit of a server that asks its clients to move. A program that does not know it takes the value
/// as a time that never comes.
const LEAVES: u64 = 1 << 63;

impl StoreMemory {
    /// Records that the program is being drained. `until` is the time since the machine was started
    /// at which it ends in any case; `leaves` says that a server asks its clients to move.
    pub(crate) fn keep_drain(&self, until: Option<Duration>, leaves: bool) {
        let ms = |until: Duration| u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        let time = |until: Duration| ms(until).saturating_add(FIRST).min(LEAVES - 1);
        let until = until.map_or(UNLIMITED, time);
        self.0.set(DRAIN, if leaves { until | LEAVES } else { until });
    }

    /// Returns whether the program before this one was being drained: until when, and whether its
    /// clients were asked to move.
    pub(crate) fn kept_drain(&self) -> Option<(Option<Duration>, bool)> {
        let value = self.0.get(DRAIN);
        let leaves = value & LEAVES != 0;
        match value & !LEAVES {
            0 => None,
            UNLIMITED => Some((None, leaves)),
            time => Some((Some(Duration::from_millis(time - FIRST)), leaves)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Size;

    #[test]
    fn the_next_program_knows_whether_it_is_being_drained() {
        let memory = StoreMemory::create(&Size::for_held(1 << 20, 1, 1)).unwrap();
        let next = || {
            let [tables, payload] = memory.files().map(|it| it.try_clone_to_owned().unwrap());
            StoreMemory::open(tables, payload).unwrap().kept_drain()
        };
        assert_eq!(next(), None);
        for until in [Some(Duration::ZERO), Some(Duration::from_millis(86_400_001)), None] {
            for leaves in [false, true] {
                memory.keep_drain(until, leaves);
                assert_eq!(next(), Some((until, leaves)));
            }
        }
        memory.keep_drain(Some(Duration::MAX), false);
        let (until, leaves) = next().unwrap();
        assert!(until > Some(Duration::from_secs(1 << 40)) && !leaves);
    }
}
