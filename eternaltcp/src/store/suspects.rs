//! The tunnels that may be the reason for the death of a process.
//!
//! A word of a tunnel's record says that the tunnel is being processed, or read. A tunnel that was
//! being processed or read in several crashes is ended without being read again.

use std::time::Duration;

use super::memory::{Memory, StoreMemory};
use super::session;
use super::tunnel::{ACCUSED, BUSY, CRASHES, current};

/// A tunnel that was being processed in as many crashes as are recorded, within this time, is
/// ended.
const CRASH_PERIOD: Duration = Duration::from_secs(60);

impl StoreMemory {
    /// Returns whether a tunnel was being processed when the last process stopped, and so may be
    /// the reason for its death. Another process with the same memory may call this.
    #[must_use]
    pub fn has_suspect(&self) -> bool {
        self.0.stored_tunnels().any(|index| self.0.busy(index) != 0)
    }

    /// Returns whether the last process panicked while it drove a tunnel, or died while it read one.
    pub(crate) fn has_accused(&self) -> bool {
        self.0.stored_tunnels().any(|index| self.0.busy(index) == ACCUSED)
    }

    /// Records that the calling thread panics. Only the tunnel that it drives is the reason, and no
    /// other tunnel that is processed at the same time.
    pub(crate) fn accuse(&self) {
        if let Some(index) = current() {
            self.0.set(self.0.tunnels.at(index) + BUSY, ACCUSED);
        }
    }

    /// Counts the crash of the last process, if it crashed, at `now` of the boot-time clock, for
    /// the tunnels that may be the reason. A tunnel that may be the reason for too many crashes is
    /// ended: its records are cleared. Returns the number of sessions of each ended tunnel. Call
    /// this before [`Self::recover`].
    pub(crate) fn end_suspects(&self, has_crashed: bool, now: Duration) -> Vec<usize> {
        let (memory, has_accused) = (&*self.0, self.has_accused());
        let mut ended = Vec::new();
        for index in memory.stored_tunnels() {
            let busy = memory.busy(index);
            let may_be_it = has_crashed && busy != 0 && (busy == ACCUSED || !has_accused);
            let is_over = may_be_it && memory.count_crash(index, now);
            // The crash is counted once.
            memory.set(memory.tunnels.at(index) + BUSY, 0);
            if is_over {
                ended.push(memory.count_sessions(index));
                memory.set_first(memory.tunnels.at(index), 0);
            }
        }
        ended
    }
}

impl Memory {
    /// Reads a part of a tunnel. If the process dies meanwhile, that tunnel is the reason.
    pub(super) fn reading<T>(&self, tunnel: u32, read: impl FnOnce() -> T) -> T {
        let at = self.tunnels.at(tunnel) + BUSY;
        self.set_first(at, ACCUSED);
        // After a panic the word stays.
        let result = read();
        self.set_first(at, 0);
        result
    }

    fn busy(&self, tunnel: u32) -> u64 {
        self.get(self.tunnels.at(tunnel) + BUSY)
    }

    /// Returns the records of tunnels that are in use.
    fn stored_tunnels(&self) -> impl Iterator<Item = u32> {
        let mark = self.tunnels.stored_mark(&self.words);
        (0..mark).filter(|index| self.get(self.tunnels.at(*index)) != 0)
    }

    /// Records that a tunnel was being processed in a crash. Returns whether it was being processed
    /// in too many crashes.
    fn count_crash(&self, tunnel: u32, now: Duration) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let [first, second, third] = CRASHES.map(|word| self.tunnels.at(tunnel) + word);
        self.set(third, self.get(second));
        self.set(second, self.get(first));
        self.set(first, nanos(now));
        let oldest = self.get(third);
        oldest > 0 && nanos(now).saturating_sub(oldest) < nanos(CRASH_PERIOD)
    }

    /// Returns the number of sessions of a tunnel.
    fn count_sessions(&self, tunnel: u32) -> usize {
        let is_its =
            |record: &u32| session::owner(self, *record).is_some_and(|(_, owner)| owner == tunnel);
        (0..self.sessions.stored_mark(&self.words)).filter(is_its).count()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eternaltcp_proto::kept::Kept;
    use eternaltcp_proto::{Config, Side, Tunnel};

    use super::super::TunnelStore;
    use super::super::tests::{kept, memory, reopen};
    use super::*;

    const OPENED: [usize; 2] = [3, 1];

    /// Returns a store with two tunnels, of which the first has three sessions and the other has
    /// one.
    fn two() -> (StoreMemory, [Kept<TunnelStore>; 2]) {
        let memory = memory();
        let all = OPENED.map(|sessions| {
            let mut tunnel = Tunnel::new(Side::Client, Config::default());
            let mut kept = kept(&memory);
            (0..sessions).for_each(|_| {
                tunnel.open(Bytes::from_static(b"target:1")).unwrap();
            });
            let _ = kept.commit(&mut tunnel);
            kept
        });
        (memory, all)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_tunnel_that_was_at_work_in_three_crashes_within_a_minute_is_told_from_others() {
        let (memory, [bad, good]) = two();
        assert!(!memory.has_suspect());
        // The times of the crashes, and whether the tunnel is ended after each.
        for (time, is_over) in [(100, false), (130, false), (161, false), (170, true)] {
            bad.store().set_busy(true);
            assert!(memory.has_suspect());
            let expected = if is_over { vec![OPENED[0]] } else { Vec::new() };
            assert_eq!(memory.end_suspects(true, at(time)), expected, "{time}");
            assert!(!memory.has_suspect(), "it is counted once");
        }
        assert_eq!(reopen(&memory).recover(drop).len(), 1);
        drop(good);
    }

    #[test]
    fn of_tunnels_that_work_at_once_the_one_whose_thread_panics_is_accused() {
        let (memory, [bad, good]) = two();
        memory.accuse();
        for (crash, expected) in [vec![], vec![], vec![OPENED[0]]].into_iter().enumerate() {
            std::thread::scope(|scope| {
                scope.spawn(|| good.store().set_busy(true));
            });
            bad.store().set_busy(true);
            assert!(!memory.has_accused() && memory.has_suspect());
            memory.accuse();
            assert!(memory.has_accused());
            assert_eq!(memory.end_suspects(true, at(1)), expected, "{crash}");
            assert!(!memory.has_accused() && !memory.has_suspect());
            bad.store().set_busy(false);
        }
        // A thread that drives no tunnel accuses nobody.
        memory.accuse();
        assert!(!memory.has_accused());
    }

    #[test]
    fn a_tunnel_whose_state_cannot_be_read_without_a_crash_is_ended_unread_and_no_other() {
        let (memory, [bad, good]) = two();
        good.store().set_busy(true);
        bad.store().set_busy(true);
        drop([bad, good]);
        // The first crash happened while both of them worked, and the next ones while one was read.
        let next = reopen(&memory);
        assert_eq!(next.end_suspects(true, at(1)), Vec::<usize>::new());
        next.recover(drop)[0].set_reading(true);
        for expected in [vec![], vec![OPENED[0]]] {
            let memory = reopen(&memory);
            assert!(memory.has_accused());
            assert_eq!(memory.end_suspects(true, at(2)), expected);
            let stores = memory.recover(drop);
            assert_eq!(stores.len(), 2 - expected.len());
            if expected.is_empty() {
                stores[0].set_reading(true);
            }
        }
        // A panic while a part is read leaves the word; a process that is killed accuses nobody.
        let memory = reopen(&memory);
        let only = memory.0.stored_tunnels().next().unwrap();
        let panics =
            std::panic::AssertUnwindSafe(|| memory.0.reading(only, || panic!("on purpose")));
        assert!(std::panic::catch_unwind(panics).is_err() && memory.has_accused());
        assert_eq!(memory.end_suspects(false, at(3)), Vec::<usize>::new());
        assert!(!memory.has_suspect());
        assert_eq!(memory.0.reading(only, || 7), 7);
        assert!(!memory.has_suspect());
    }
}
