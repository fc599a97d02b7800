//! The programs of both ends, which may die and be replaced, and their stores.

use eternaltcp_proto::kept::Recovered;
use eternaltcp_proto::{Side, Time};

use crate::scenario::Crash;
use crate::sides::{BOTH, Sides};
use crate::store::StoreHandle;

/// Programs, their stores, and those that are dead.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) stores: Sides<StoreHandle>,
    /// The time at which the next program starts, if the last one has died.
    dead: Sides<Option<Time>>,
    /// The next program dies, too, after this many calls.
    again: Sides<Option<u64>>,
    /// The recovered state is compared with the state before the death.
    expected: Sides<Option<Box<Recovered>>>,
    /// The next program has lower limits.
    pub(crate) shrinks: bool,
}

impl Programs {
    /// Creates the stores of both ends, whose programs live.
    pub(crate) fn new() -> Self {
        let stores = Sides {
            client: StoreHandle::new(Side::Client),
            server: StoreHandle::new(Side::Server),
        };
        let (dead, again, expected) = (Sides::default(), Sides::default(), Sides::default());
        Self { stores, dead, again, expected, shrinks: false }
    }

    /// Schedules the death of a program.
    pub(crate) fn ordain(&mut self, crash: &Crash) {
        self.stores[crash.side].kill_after(crash.call);
        self.again[crash.side] = crash.again;
    }

    /// Returns the number of calls that each end's store has had.
    pub(crate) fn calls(&self) -> Sides<u64> {
        Sides { client: self.stores.client.calls(), server: self.stores.server.calls() }
    }

    /// Lets the program that follows a dead one die too, if that was scheduled.
    pub(crate) fn ordain_again(&mut self, side: Side) {
        if let Some(calls) = self.again[side].take() {
            self.stores[side].kill_after(calls);
        }
    }

    /// Records that a program is dead, and when the next one starts.
    pub(crate) fn start_next_at(&mut self, side: Side, at: Time) {
        self.dead[side] = Some(at);
    }

    /// Records that the next program lives.
    pub(crate) fn revived(&mut self, side: Side) {
        self.dead[side] = None;
    }

    /// Records the state that the next program must recover.
    pub(crate) fn expect(&mut self, side: Side, state: Recovered) {
        self.expected[side] = Some(Box::new(state));
    }

    /// Takes the state that the next program must recover.
    pub(crate) fn take_expected(&mut self, side: Side) -> Option<Box<Recovered>> {
        self.expected[side].take()
    }

    pub(crate) fn is_dead(&self, side: Side) -> bool {
        self.dead[side].is_some()
    }

    /// Returns the time at which the next program starts.
    pub(crate) fn next_time(&self, side: Side) -> Option<Time> {
        self.dead[side]
    }

    /// Cancels all deaths.
    pub(crate) fn calm_down(&mut self) {
        for side in BOTH {
            self.stores[side].spare();
            self.again[side] = None;
        }
    }
}
