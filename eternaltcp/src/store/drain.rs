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

impl StoreMemory {
    /// Records that the program is being drained. `until` is the time since the machine was started
    /// at which it ends in any case.
    pub(crate) fn keep_drain(&self, until: Option<Duration>) {
        let ms = |until: Duration| u64::try_from(until.as_millis()).unwrap_or(u64::MAX - FIRST);
        self.0.set(DRAIN, until.map_or(UNLIMITED, |until| ms(until).saturating_add(FIRST)));
    }

    /// Returns whether the program before this one was being drained, and until when.
    pub(crate) fn kept_drain(&self) -> Option<Option<Duration>> {
        match self.0.get(DRAIN) {
            0 => None,
            UNLIMITED => Some(None),
            time => Some(Some(Duration::from_millis(time - FIRST))),
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
            memory.keep_drain(until);
            assert_eq!(next(), Some(until));
        }
        memory.keep_drain(Some(Duration::MAX));
        assert!(next().flatten() > Some(Duration::from_secs(1 << 40)));
    }
}
