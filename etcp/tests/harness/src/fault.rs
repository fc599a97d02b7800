//! Faults of a carrier while the client moves.

use std::collections::BTreeSet;
use std::time::Duration;

use super::router::{Direction, RouterFlow};
use super::wait::{PATIENCE, until};
use super::world::TestWorld;

/// The time for which a path stays silent: longer than `--dead-after`, so that the proxies must
/// have noticed.
pub const SILENCE: Duration = Duration::from_secs(4);

/// One fault that kills the current carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFault {
    /// The old addresses are removed, then the other uplink's are added; no packet reports the
    /// carrier's death.
    Move,
    /// The other uplink comes up, both sides of the carrier get a RST at their next packet, and
    /// once the client continues there the old uplink is removed.
    ResetAndMove,
    /// Both sides get a RST at their next packet; the client stays.
    Reset,
    /// Nothing passes for [`SILENCE`], then the client moves and everything passes.
    BlackholeThenMove,
    /// The carrier's packets are dropped for good both ways, while new carriers pass.
    Forget,
    /// The carrier's packets to one side are dropped for good, while new carriers pass.
    ForgetOneWay(Direction),
    /// Both uplinks are up and the default route changes; then the old uplink goes.
    SoftMove,
}

impl NetworkFault {
    /// The faults that every program must survive.
    pub const CYCLE: [Self; 5] =
        [Self::ResetAndMove, Self::BlackholeThenMove, Self::Forget, Self::Move, Self::Reset];

    /// Lets the fault happen, and returns once the network is whole again.
    pub fn strike(self, world: &TestWorld) {
        let next = world.other_uplink();
        match self {
            Self::Move => world.use_uplink(next),
            Self::ResetAndMove => {
                let before = world.router.carriers();
                world.move_soft(next);
                world.router.reset_carriers();
                self.await_new_carrier(world, &before, || false);
                world.use_uplink(next);
            }
            Self::Reset => world.router.reset_carriers(),
            Self::BlackholeThenMove => {
                world.router.blackhole(Direction::Both);
                std::thread::sleep(SILENCE);
                world.use_uplink(next);
                world.router.lift_blackhole();
            }
            Self::Forget => world.router.forget_carriers(Direction::Both),
            Self::ForgetOneWay(direction) => world.router.forget_carriers(direction),
            Self::SoftMove => {
                world.move_soft(next);
                world.use_uplink(next);
            }
        }
    }

    /// Lets the fault happen and waits until the router sees a carrier that was not there before.
    pub fn survive(self, world: &TestWorld) {
        self.survive_unless(world, || false);
    }

    /// Does the same, but waits for no carrier once `is_over` returns that none is needed.
    pub fn survive_unless(self, world: &TestWorld, is_over: impl FnMut() -> bool) {
        let before = world.router.carriers();
        self.strike(world);
        self.await_new_carrier(world, &before, is_over);
    }

    fn await_new_carrier(
        self,
        world: &TestWorld,
        before: &BTreeSet<RouterFlow>,
        mut is_over: impl FnMut() -> bool,
    ) {
        until(&format!("a new carrier after {self:?}"), PATIENCE, || {
            is_over() || !world.router.carriers().is_subset(before)
        });
    }
}
